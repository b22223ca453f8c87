"""Pages. Whoever may not see a case gets the same 404 as for one that is not there."""

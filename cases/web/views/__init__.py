"""Views of the pages. A case that the user has no access to gives the same 404 as one that does not exist."""

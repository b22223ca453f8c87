"""The queue of analyses and its workers."""

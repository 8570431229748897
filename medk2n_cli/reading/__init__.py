"""A folder becomes a Study, a Series becomes a Volume."""

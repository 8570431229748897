"""A written result is read again, as somebody else would read it."""

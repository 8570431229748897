"""A result becomes files: each by temporary file and rename, the manifest last."""

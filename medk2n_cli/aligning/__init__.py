"""Volumes on many grids become one AlignedStudy."""

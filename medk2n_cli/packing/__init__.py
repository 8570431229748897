"""AlignedStudy <-> network arrays. NumPy only; training goes through the same code."""

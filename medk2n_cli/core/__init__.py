"""The nouns: frozen types that are valid once built. NumPy only, no input or output."""

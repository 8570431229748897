"""medk2n: synthesise missing MR contrasts with Med-K2N, and say how far to trust them."""

__version__ = "0.1.0"

"""What the training room will not do, told in one line instead of a traceback."""

from __future__ import annotations


class Refusal(ValueError):
    """Asked for what cannot be done, or should not; the message says why, and what to give instead."""

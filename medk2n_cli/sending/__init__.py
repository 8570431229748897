"""The only room that opens a network connection of its own, and only when asked to."""

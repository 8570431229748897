"""Label maps in, perfectly aligned six-contrast studies of heads that no patient owns out."""

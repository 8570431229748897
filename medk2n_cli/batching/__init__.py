"""Many studies: overlapping their stages, one table, one lock, an inbox, a cluster."""

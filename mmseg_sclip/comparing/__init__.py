"""Several configs beside each other: their runs, and the tables of their numbers."""

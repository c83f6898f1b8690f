"""A map of songs in two dimensions, and what its regions are called."""

"""Example code location: orders of a small shop become daily revenue."""

"""Neural network layers that the networks are built from."""

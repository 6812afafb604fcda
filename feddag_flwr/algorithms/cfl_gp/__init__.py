"""CFL-GP : clusters by gradients that clients compute of common models."""

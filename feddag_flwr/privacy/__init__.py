"""Differential privacy of what a client's profile says: mechanism, noise and accountant."""

"""Watches what processes take of a machine while a run goes on, and judges whether it grows."""

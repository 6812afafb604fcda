"""Flower's own commands as child processes, and what they are told."""

"""PACFL: its messages, and what its clients do."""

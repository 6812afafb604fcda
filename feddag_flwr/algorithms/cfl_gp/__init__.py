"""CFL-GP: its messages, and what its clients do."""

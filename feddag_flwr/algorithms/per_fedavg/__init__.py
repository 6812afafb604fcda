"""Per-FedAvg: its messages, and what its clients do."""

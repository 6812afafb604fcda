"""FedDAG: its messages, and what its clients do."""

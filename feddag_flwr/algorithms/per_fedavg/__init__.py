"""Per-FedAvg : a common start that every client fits to itself."""

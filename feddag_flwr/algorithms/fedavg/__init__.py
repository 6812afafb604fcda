"""FedAvg: one cluster, no profile."""

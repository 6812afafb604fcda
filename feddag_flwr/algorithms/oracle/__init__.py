"""FedAvg within the true groups."""

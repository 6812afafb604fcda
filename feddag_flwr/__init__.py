"""FedDAG: clustered federated learning (arXiv 2602.23504) as a Flower application."""

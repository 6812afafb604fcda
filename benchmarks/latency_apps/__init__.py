"""Apps that `deployment_latency.py` writes into folders of their own: FedDAG, and no-op."""

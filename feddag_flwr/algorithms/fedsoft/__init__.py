"""FedSoft: every client is a mixture of clusters, with a model of its own."""

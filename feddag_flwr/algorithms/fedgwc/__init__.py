"""FedGWC: clusters by how clients' losses lie among those of a round."""

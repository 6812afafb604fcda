"""CFL: clusters are cut in two where their members pull apart."""

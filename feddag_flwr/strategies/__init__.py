"""Flower strategies: a base for one model a cluster, and the algorithms written on it."""

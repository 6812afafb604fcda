"""The algorithms: a folder each, with its server half, its client half and its messages."""

"""Encoders, the dual-encoder cluster model, and how a model becomes flat weights."""

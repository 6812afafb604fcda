"""Algorithms, a folder each: messages and the client half."""

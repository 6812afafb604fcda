"""Attacks of an honest but curious server on what clients send, measured."""

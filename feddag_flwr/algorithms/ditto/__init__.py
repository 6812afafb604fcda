"""Ditto: every client has a model of its own, held near the global one."""

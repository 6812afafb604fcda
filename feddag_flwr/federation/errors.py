"""What ends a federation."""

from __future__ import annotations

# Clients that a federation needs at least.
MIN_CLIENTS = 2


class FederationError(RuntimeError):
    """The federation cannot go on: too few clients, or none that agree."""

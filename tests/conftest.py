import os

import hypothesis
import pytest
from slept_clock import Clock

from feddag_flwr import exchange
from feddag_flwr.strategies import clustered, registry

# No deadline a single example: a loaded machine is no fault of the code.
hypothesis.settings.register_profile("feddag", deadline=None)
hypothesis.settings.load_profile("feddag")


@pytest.fixture(autouse=True)
def clock(monkeypatch):
    """Give exchanges, the roll call and rounds a clock of their own."""
    made = Clock()
    monkeypatch.setattr(exchange, "time", made)
    monkeypatch.setattr(registry, "time", made)
    monkeypatch.setattr(clustered, "time", made)
    return made


@pytest.fixture(autouse=True)
def quick_disk(monkeypatch):
    """Let nobody wait for the disk: a busy one takes seconds, and no test here cuts the power."""
    monkeypatch.setattr(os, "fsync", lambda handle: None)

import os

import hypothesis
import pytest

from feddag_flwr import exchange
from feddag_flwr.strategies import roster

# No deadline a single example: a loaded machine is no fault of the code.
hypothesis.settings.register_profile("feddag", deadline=None)
hypothesis.settings.load_profile("feddag")


class Clock:
    """Time that passes only while somebody sleeps: timeouts cost nothing, load changes nothing."""

    def __init__(self):
        self.now = 0.0

    def monotonic(self):
        return self.now

    def sleep(self, seconds):
        self.now += seconds


@pytest.fixture(autouse=True)
def clock(monkeypatch):
    """Give the exchange and the roll call a clock of their own."""
    made = Clock()
    monkeypatch.setattr(exchange, "time", made)
    monkeypatch.setattr(roster, "time", made)
    return made


@pytest.fixture(autouse=True)
def quick_disk(monkeypatch):
    """Let nobody wait for the disk: a busy one takes seconds, and no test here cuts the power."""
    monkeypatch.setattr(os, "fsync", lambda handle: None)

import os

import hypothesis
import pytest
from slept_clock import Clock

from feddag_flwr.engine import registration, strategy
from feddag_flwr.federation import exchange

# No deadline a single example: a loaded machine is no fault of the code.
hypothesis.settings.register_profile("feddag", deadline=None)
hypothesis.settings.load_profile("feddag")


@pytest.fixture(autouse=True)
def clock(monkeypatch):
    """Give exchanges, the roll call and rounds a clock of their own."""
    made = Clock()
    monkeypatch.setattr(exchange, "time", made)
    monkeypatch.setattr(registration, "time", made)
    monkeypatch.setattr(strategy, "time", made)
    return made


@pytest.fixture(autouse=True)
def quick_disk(monkeypatch):
    """Let nobody wait for the disk: a busy one takes seconds, and no test here cuts the power."""
    monkeypatch.setattr(os, "fsync", lambda handle: None)

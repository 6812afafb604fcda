import os

import hypothesis
import pytest
from slept_clock import Clock

# No deadline a single example: a loaded machine is no fault of the code. FEDDAG_EXAMPLES=500 looks
# longer.
EXAMPLES = int(os.environ.get("FEDDAG_EXAMPLES", "50"))
hypothesis.settings.register_profile("feddag", deadline=None, max_examples=EXAMPLES)
hypothesis.settings.load_profile("feddag")


@pytest.fixture(autouse=True)
def clock(monkeypatch):
    """Give exchanges, the roll call and rounds a clock of their own.

    By their names: the process that only deals tests out need not import PyTorch first.
    """
    made = Clock()
    for module in ("federation.exchange", "engine.registration", "engine.strategy"):
        monkeypatch.setattr(f"feddag_flwr.{module}.time", made)
    return made


@pytest.fixture(autouse=True)
def quick_disk(monkeypatch):
    """Let nobody wait for the disk: a busy one takes seconds, and no test here cuts the power."""
    monkeypatch.setattr(os, "fsync", lambda handle: None)


@pytest.fixture(scope="session")
def shared_folder(tmp_path_factory):
    """Return the folder of what several tests look at and none changes."""
    return tmp_path_factory.mktemp("shared")

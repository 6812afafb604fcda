"""The ledger of private profiles and private training, without a run."""

import json

import pytest
from memory_grid import quick_settings
from private_jobs import BOTH

from feddag_flwr.federation.privacy_ledger import PrivacyLedger
from feddag_flwr.privacy.training import Spent
from feddag_flwr.run_folder import PRIVACY, RunFolder


@pytest.fixture
def settings(tmp_path):
    return quick_settings(run_dir=str(tmp_path), run_name="run", **BOTH)


@pytest.fixture
def folder(settings):
    folder = RunFolder(settings)
    folder.open()
    return folder


def asked(settings, folder):
    """Three clients: most steps, most profiles, and less of both."""
    ledger = PrivacyLedger(settings, folder)
    for name in ("steps", "profiles", "little"):
        ledger.note(name, 0)
    ledger.note("profiles", 1)
    assert ledger.note_training("steps", 1, 2) == 0
    ledger.heard("steps", 1, 57)
    ledger.heard("steps", 1, 60)  # what was told first stands
    assert ledger.note_training("steps", 2, 1) == 57
    assert ledger.note_training("little", 2, 1) == 0
    return ledger


def test_epsilon_is_the_highest_of_all_clients(settings, folder):
    ledger = asked(settings, folder)
    told = [ledger.costs.epsilon(each) for each in (Spent(1, 1, 6), Spent(2), Spent(1, 1, 2))]
    assert ledger.epsilon == max(told)
    summary = ledger.summary()
    assert (summary["most-profiles-of-a-client"], summary["most-steps-of-a-client"]) == (2, 6)


def test_what_is_read_again_is_the_same(settings, folder):
    ledger = asked(settings, folder)
    again = PrivacyLedger(settings, folder)
    again.read()
    assert again.summary() == ledger.summary()
    assert again.note_training("steps", 3, 1) == 57
    assert again.note_training("profiles", 3, 1) == 0


def test_a_line_is_written_before_the_request_goes_out(settings, folder):
    ledger = PrivacyLedger(settings, folder)
    ledger.note_training("one", 4, 2)
    lines = (folder.path / PRIVACY).read_text().splitlines()
    assert list(map(json.loads, lines)) == [{"client": "one", "round": 4, "steps": 4, "number": 1}]


def test_nothing_asked_is_nothing_told(settings, folder):
    assert PrivacyLedger(settings, folder).epsilon == 0

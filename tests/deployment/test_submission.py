"""Runs that are resumed by themselves, with a Flower that answers from a script."""

import io
import tomllib

import pytest
from test_run import Flower, status

from feddag_flwr.deployment import submission
from feddag_flwr.deployment.submission import Patience, Submission

FOLDER = "INFO :      run folder: /srv/runs/20261128-feddag\n"
ROUND = "INFO :      round   3/10 | 2 clusters\n"
DONE, FAILED, STOPPED = (status(f"finished:{word}", "why") for word in
                         ("completed", "failed", "stopped"))  # fmt: skip


class FakeSuperLink:
    """Takes runs, and lets each end as its script says; `away` submissions find nobody."""

    def __init__(self, ends, away=0):
        self.ends, self.away, self.given = ends, away, []

    def ask(self, arguments, options=()):
        if self.given and self.away:
            self.away -= 1
            raise RuntimeError("flwr run: no connection")
        text = open(options[1], "rb").read() if options else b""  # noqa: SIM115, PTH123
        self.given.append(tomllib.loads(text.decode()))
        return {"run-id": str(len(self.given))}

    def flower(self, arguments):
        run_id = int(arguments[1] if arguments[0] == "log" else arguments[2])
        log, end = self.ends[run_id - 1]
        return Flower([log], [end])(arguments)


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch):
    monkeypatch.setattr("feddag_flwr.deployment.run.STATUS_POLL_SECONDS", 0.0)
    monkeypatch.setattr(submission, "PAUSE", 0.0)


def follow(tmp_path, ends, *, away=0, seconds=60.0, resumes=5):
    superlink, told, stream = FakeSuperLink(ends, away), [], io.StringIO()
    made = Submission(superlink, tmp_path, {"num-rounds": 10}, tmp_path, stream, told.append)
    return made.to_the_end(Patience(seconds, resumes)), superlink, told, stream.getvalue()


def test_a_run_that_ends_well_is_submitted_once(tmp_path):
    outcome, superlink, told, log = follow(tmp_path, [(FOLDER + ROUND, DONE)])
    assert outcome.succeeded
    assert superlink.given == [{"num-rounds": 10}]
    assert log == FOLDER + ROUND
    assert told == ["run 1"]


def test_a_run_that_failed_goes_on_from_its_folder_once_the_superlink_is_back(tmp_path):
    ends = [(FOLDER + ROUND, FAILED), (FOLDER + ROUND, FAILED), (FOLDER + ROUND, DONE)]
    outcome, superlink, told, _ = follow(tmp_path, ends, away=2)
    assert outcome.succeeded
    resumed = {"num-rounds": 10, "resume": "/srv/runs/20261128-feddag"}
    assert superlink.given == [{"num-rounds": 10}, resumed, resumed]
    assert told[1] == (
        "finished:failed (why); going on from /srv/runs/20261128-feddag, resume 1 of 5"
    )
    assert sum("next try" in line for line in told) == 2


@pytest.mark.parametrize(
    ("log", "end"),
    [
        (ROUND, FAILED),  # no folder to go on from
        (FOLDER, FAILED),  # no round is finished: it would fail again
        (FOLDER + ROUND, STOPPED),  # somebody wants it so
    ],
)
def test_what_cannot_or_shall_not_go_on_is_left_alone(tmp_path, log, end):
    outcome, superlink, _, _ = follow(tmp_path, [(log, end)])
    assert not outcome.succeeded
    assert len(superlink.given) == 1


def test_a_run_is_resumed_so_often_and_no_more(tmp_path):
    outcome, superlink, _, _ = follow(tmp_path, [(FOLDER + ROUND, FAILED)] * 9, resumes=2)
    assert outcome.status == "finished:failed"
    assert len(superlink.given) == 3


def test_a_run_that_fails_at_once_after_a_resume_is_given_up(tmp_path):
    outcome, superlink, _, _ = follow(tmp_path, [(FOLDER + ROUND, FAILED), (FOLDER, FAILED)])
    assert outcome.status == "finished:failed"
    assert len(superlink.given) == 2


def test_a_run_still_going_is_left_alone_when_time_is_over(tmp_path):
    outcome, superlink, _, _ = follow(tmp_path, [(FOLDER, status("running"))], seconds=0.3)
    assert outcome.status == "timed-out"
    assert len(superlink.given) == 1


def test_a_superlink_that_stays_away_leaves_the_run_as_it_ended(tmp_path):
    ends = [(FOLDER + ROUND, FAILED)]
    outcome, superlink, told, _ = follow(tmp_path, ends, away=10**9, seconds=0.5)
    assert outcome.status == "finished:failed"
    assert len(superlink.given) == 1
    assert "next try" in told[-1]

"""A run's log and end, with a Flower that answers from a script."""

import io
import json
import threading
import time

import pytest

from feddag_flwr.deployment.run import Run


class Answer:
    """What `flwr` prints, as a process would give it."""

    def __init__(self, text):
        self.stdout = io.StringIO(text)
        self.text = text

    def communicate(self):
        return self.text, None

    def wait(self):
        return 0

    def poll(self):
        return 0


class Flower:
    """Answers `log` and `ls` with the next of its texts; the last one stays."""

    def __init__(self, logs, statuses):
        self.texts = {"log": list(logs), "ls": list(statuses)}
        self.asked = []

    def __call__(self, arguments):
        self.asked.append(arguments)
        texts = self.texts[arguments[0]]
        return Answer(texts.pop(0) if len(texts) > 1 else texts[0])


def status(word, details="N/A"):
    return json.dumps({"success": True, "runs": [{"status": word, "status-details": details}]})


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch):
    monkeypatch.setattr("feddag_flwr.deployment.run.STATUS_POLL_SECONDS", 0.0)


def test_a_log_that_breaks_off_goes_on_where_it_was(tmp_path):
    flower = Flower(
        ["one\ntwo\n", "", "one\ntwo\n\033[92mthree\033[0m\n", "one\ntwo\nthree\nfour\n"],
        ["no connection", "no connection", status("running"), status("finished:completed")],
    )
    stream = io.StringIO()
    run = Run(7, flower, tmp_path / "run.log", stream)
    outcome = run.wait(20)
    assert outcome.succeeded
    assert (outcome.status, outcome.details) == ("finished:completed", "")
    assert outcome.log == stream.getvalue() == "one\ntwo\nthree\nfour\n"
    assert flower.asked[0] == ["log", "7", "--stream"]
    assert flower.asked[1] == ["ls", "--run-id", "7", "--format", "json"]


def test_a_failed_run_says_why(tmp_path):
    run = Run(7, Flower(["x\n"], [status("finished:failed", "boom")]), tmp_path / "run.log")
    outcome = run.wait(20)
    assert not outcome.succeeded
    assert (outcome.status, outcome.details) == ("finished:failed", "boom")


def test_a_run_that_goes_on_is_not_waited_for_longer(tmp_path):
    run = Run(7, Flower(["x\n"], [status("running")]), tmp_path / "run.log")
    try:
        outcome = run.wait(0.2)
        assert not outcome.succeeded
        assert (outcome.status, outcome.details) == ("timed-out", "still going after 0.2 s")
    finally:
        run.close()


def test_a_line_is_waited_for_until_the_run_ends(tmp_path):
    run = Run(7, Flower(["round 1\n"], [status("finished:completed")]), tmp_path / "run.log")
    assert run.wait_for("round 1", 20) == "round 1"
    run.wait(20)
    before = time.monotonic()
    with pytest.raises(RuntimeError, match=r"run 7 ended without 'round 2':\nround 1"):
        run.wait_for("round 2", 60)
    assert time.monotonic() - before < 30


def test_flower_may_know_nothing(tmp_path):
    flower = Flower([""], ['{"success": true, "runs": []}'])
    run = Run(7, flower, tmp_path / "run.log")
    try:
        with pytest.raises(ConnectionError, match="does not know run 7"):
            run.status()
    finally:
        run.close()


def test_nobody_follows_a_closed_run(tmp_path):
    run = Run(7, Flower([""], [status("running")]), tmp_path / "run.log")
    run.close()
    run.wait(20)
    assert not run._follower.is_alive()


def test_no_flower_is_started_once_a_run_is_given_up(tmp_path):
    """The log breaks off because the SuperLink is being ended: nobody asks it why."""
    reading, given_up = threading.Event(), threading.Event()

    class Stream:
        def __iter__(self):
            reading.set()
            given_up.wait(20)
            return iter(())

    flower = Flower(["x\n"], [status("running")])

    def slow(arguments):
        answer = flower(arguments)
        answer.stdout = Stream()
        return answer

    run = Run(7, slow, tmp_path / "run.log")
    assert reading.wait(20)
    run.close()
    given_up.set()
    assert run.wait(20).status == "timed-out"
    assert flower.asked == [["log", "7", "--stream"]]
    with pytest.raises(ConnectionError, match="run 7 has been given up"):
        run.status()

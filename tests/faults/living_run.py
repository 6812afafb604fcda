"""A run that goes on while its processes are harmed, and what it says of itself."""

import json
import time
from pathlib import Path

from fault_table import record

from feddag_flwr.deployment.run import wait_for_line
from feddag_flwr.flower.commands import tail
from feddag_flwr.flower.run_status import TIMED_OUT

# Seconds for anything that must happen: a loaded machine is no fault of the code.
PATIENCE = 900.0
# Cheap rounds; more of them than anybody waits for.
QUICK = {
    "scenario": "own",
    "dataset": "npz",
    "participation": 1.0,
    "num-rounds": 9999,
    "evaluate-every": 9999,
    "warmup-rounds": 1,
    "warmup-epochs": 1,
    "local-epochs": 1,
    # Below the minute after which Flower itself gives a silent node or app up.
    "round-timeout": 45.0,
}


def took_part(line):
    """Clients whose replies made a round."""
    return set(line["participants"]["by-client"])


class LivingRun:
    """A run of a federation, whoever of its processes has died meanwhile.

    Parameters
    ----------
    made : Federation
        Its nodes may join later.
    app_dir : Path
        The app.
    settings : dict
        Other than those in `QUICK`.
    """

    def __init__(self, made, app_dir, settings):
        self.made = made
        self.app_dir = app_dir
        self.settings = {**QUICK, **settings}
        self.run = made.submit(app_dir, self.settings)
        line = self.run.wait_for("run folder: ", PATIENCE)
        self.folder = Path(line.partition("run folder: ")[2].strip())

    def resume(self):
        """Let the run go on as a new one of Flower's, from its folder."""
        self.run = self.made.submit(self.app_dir, {**self.settings, "resume": str(self.folder)})

    def rounds(self):
        """The lines of ``metrics.jsonl``."""
        path = self.folder / "metrics.jsonl"
        text = path.read_text() if path.exists() else ""
        return [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]

    def wait_round(self, wanted, after):
        """Wait for a round after `after` whose line is as wanted; return the line."""
        deadline = time.monotonic() + PATIENCE
        while True:
            outcome = self.run.wait(0.2)
            lines = self.rounds()
            for line in lines:
                if line["round"] > after and wanted(line):
                    return line
            assert outcome.status == TIMED_OUT, f"the run ended: {outcome}\n{tail(outcome.log, 40)}"
            assert time.monotonic() < deadline, (
                f"no such round after round {after}: {lines[-5:]}\n{tail(self.run.log(), 40)}"
            )

    def wait_for_all(self, names):
        """Wait for a round from now on in which exactly these clients take part."""
        last = max((line["round"] for line in self.rounds()), default=0)
        return self.wait_round(lambda line: took_part(line) == set(names), last)

    def wait_asked(self, node, action="train"):
        """Wait until a node works on a message that comes from now on."""
        node.wait_for(f"Receiving: {action} message", PATIENCE, after=len(node.log()))


class Fault:
    """One fault from its injection to its record; make it at the moment of the injection.

    Parameters
    ----------
    living : LivingRun
        The run.
    key : str
        Which fault it is, of `fault_table.FAULTS`.
    """

    def __init__(self, living, key):
        self.living = living
        self.key = key
        self.before = living.rounds()
        self.last = self.before[-1]["round"]
        self._log_before = len(living.run.log())
        self._begun = time.monotonic()
        self._mended = None
        self._goes_on = None

    def log(self):
        """What the server app has logged since, in the same run of Flower's."""
        return self.living.run.log()[self._log_before :]

    def wait_for(self, pattern):
        """Wait for a line of the log."""
        return wait_for_line(self.log, pattern, PATIENCE, "the server app")

    def wait_without(self, lost, others):
        """Wait for a round that was finished without one client, by others."""
        wanted = set(others) - {lost}
        line = self.living.wait_round(
            lambda line: lost in line["failed"] and set() < took_part(line) <= wanted, self.last
        )
        self.goes_on()
        return line

    def goes_on(self):
        """The run goes on: a round is finished."""
        if self._goes_on is None:
            self._goes_on = time.monotonic()

    def mended(self):
        """The cause is gone; what comes back does so from here."""
        self._mended = time.monotonic()
        self._since = self.living.rounds()[-1]["round"]

    def wait_back(self, names):
        """Wait for a round of all clients after the cause is gone."""
        line = self.living.wait_round(lambda line: took_part(line) == set(names), self._since)
        self.end()
        return line

    def end(self):
        """All is as before."""
        self._ended = time.monotonic()
        self.goes_on()

    def moved(self):
        """Rounds since in which a client changed its cluster."""
        lines = self.living.rounds()
        return [line for line in lines if line["round"] > self.last and "moved" in line]

    def record(self, happened, *, redone=0):
        """Check that no finished round was lost, and leave the measurements."""
        lines = self.living.rounds()
        finished = self.before[: len(self.before) - redone]
        lost = [line["round"] for line in finished if line not in lines]
        assert lost == []
        numbers = [line["round"] for line in lines]
        assert numbers == list(range(len(lines)))
        back = None if self._mended is None else self._ended - self._mended
        record(
            self.key, happened, lost=len(lost), redone=redone,
            goes_on=self._goes_on - self._begun, back=back,
        )  # fmt: skip

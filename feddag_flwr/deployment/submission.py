"""A run in a federation, followed to its true end, and resumed by itself where it failed."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Final, NamedTuple

from feddag_flwr.deployment.run import Run
from feddag_flwr.deployment.superlink import SuperLink
from feddag_flwr.flower.run_config import RESUME, Value, write_overrides
from feddag_flwr.flower.run_status import FAILED, NOT_STARTED, RunOutcome

RUN_FOLDER: Final = re.compile(r"run folder: (.+)")
ROUND: Final = re.compile(r"round +\d+/\d+ \|")
# How long a run is followed, in seconds, and how often it is resumed, unless said otherwise.
WEEK: Final = 7 * 24 * 3600.0
RESUMES: Final = 5
# Seconds between two tries to submit, while the SuperLink does not answer.
PAUSE: Final = 10.0


class Patience(NamedTuple):
    """How long a run is followed, and how often it is resumed.

    Attributes
    ----------
    seconds : float
        For all of it; a run that is still going then is left alone.
    resumes : int
        A run that failed goes on so often, if it has finished a round since it began or went on:
        one that fails at once would fail again.
    """

    seconds: float
    resumes: int


class Submission:
    """An app and its settings, on their way to a SuperLink.

    Parameters
    ----------
    superlink : SuperLink
    app_dir : Path
        Folder of the app.
    settings : mapping
        Those that differ from the app's own.
    work_dir : Path
        For logs and the settings in a file.
    stream : file
        Where the log goes, line by line.
    tell : callable
        Takes lines about the submission itself.
    """

    def __init__(
        self,
        superlink: SuperLink,
        app_dir: Path,
        settings: Mapping[str, Value],
        work_dir: Path,
        stream: IO[str] | None,
        tell: Callable[[str], None],
    ) -> None:
        self._superlink = superlink
        self._app_dir = app_dir.resolve()
        self._settings = dict(settings)
        self._work_dir = work_dir
        self._stream = stream
        self._tell = tell

    def to_the_end(self, patience: Patience) -> RunOutcome:
        """Submit, follow, and resume what failed; return how the last of these runs ended.

        Raises
        ------
        RuntimeError
            Flower refuses the app, or the SuperLink does not answer at first.
        """
        deadline = time.monotonic() + patience.seconds
        outcome = self._follow(self._submit(), deadline)
        for resume in range(1, patience.resumes + 1):
            folder = RUN_FOLDER.search(outcome.log)
            if outcome.status != FAILED or folder is None or not ROUND.search(outcome.log):
                break
            self._settings[RESUME] = folder[1].strip()
            self._tell(
                f"{outcome.status} ({outcome.details or 'no reason given'}); going on from "
                f"{self._settings[RESUME]}, resume {resume} of {patience.resumes}"
            )
            run_id = self._submit_in_time(deadline)
            if run_id is None:
                return outcome
            outcome = self._follow(run_id, deadline)
        return outcome

    def _submit(self) -> int:
        options: list[str] = []
        if self._settings:
            path = self._work_dir / "run-config.toml"
            write_overrides(self._settings, path)
            options = ["--run-config", str(path)]
        run_id = int(self._superlink.ask(["run", str(self._app_dir)], options)["run-id"])
        self._tell(f"run {run_id}")
        return run_id

    def _submit_in_time(self, deadline: float) -> int | None:
        """Submit once the SuperLink answers again; None where it does not in time."""
        while time.monotonic() < deadline:
            try:
                return self._submit()
            except RuntimeError as error:
                self._tell(f"{NOT_STARTED}, next try in {PAUSE:g} s: {error}")
                time.sleep(PAUSE)
        return None

    def _follow(self, run_id: int, deadline: float) -> RunOutcome:
        log = self._work_dir / f"run-{run_id}.log"
        run = Run(run_id, self._superlink.flower, log, self._stream)
        try:
            return run.wait(max(0.0, deadline - time.monotonic()))
        finally:  # whoever interrupts, or has waited long enough, leaves the run alone
            run.close()

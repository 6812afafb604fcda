"""How a run ended, in Flower's own words: the exit status of ``flwr run`` does not say."""

from __future__ import annotations

import json
from dataclasses import dataclass

from feddag_flwr.flower.commands import ANSI_STYLE

COMPLETED = "finished:completed"
FINISHED = "finished"
TIMED_OUT = "timed-out"
NOT_STARTED = "not-started"
LOST = "lost"


@dataclass(frozen=True)
class RunOutcome:
    """How a run ended.

    Parameters
    ----------
    succeeded : bool
        Whether Flower calls the run completed. A ClientApp's error does not change that.
    status : str
        Flower's own, such as ``"finished:failed"``; or ``"timed-out"``; or ``"not-started"``
        when Flower refused the app; or ``"lost"`` when Flower itself did not survive the run.
    details : str
        Why it did not succeed, else empty.
    seconds : float
        From the call to the end of its last process.
    log : str
        What was streamed, without colours.
    """

    succeeded: bool
    status: str
    details: str
    seconds: float
    log: str


def parse_status(output: str) -> tuple[str, str] | None:
    """Read what ``flwr ls --format json`` says of the only run.

    Parameters
    ----------
    output : str
        What it printed.

    Returns
    -------
    tuple[str, str] | None
        Status and details, or ``None`` when there is no run.

    Raises
    ------
    ConnectionError
        If Flower could not say.
    """
    plain = ANSI_STYLE.sub("", output)
    try:
        runs = json.loads(plain[plain.index("{") :])["runs"]
        if not runs:
            return None
        details = runs[0]["status-details"]
        return runs[0]["status"], "" if details == "N/A" else details
    except (KeyError, ValueError) as error:
        raise ConnectionError(f"flwr ls gave no status but {plain.strip()!r}") from error

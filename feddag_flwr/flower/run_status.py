"""How a run ended, in Flower's own words: the exit status of ``flwr run`` does not say."""

import json
from dataclasses import dataclass

from feddag_flwr.flower.commands import ANSI_STYLE

COMPLETED = "finished:completed"
FAILED = "finished:failed"
FINISHED = "finished"
TIMED_OUT = "timed-out"
NOT_STARTED = "not-started"
LOST = "lost"


@dataclass(frozen=True)
class RunOutcome:
    """How a run ended."""

    succeeded: bool  # whether Flower calls it completed; a ClientApp's error does not change that
    status: str  # Flower's own, or one of the three above
    details: str  # why it did not succeed, else empty
    seconds: float  # from the call to the end of its last process
    log: str  # what was streamed, without colours


def parse_status(output: str) -> tuple[str, str] | None:
    """Read status and details of the only run from ``flwr ls --format json``; None without one."""
    plain = ANSI_STYLE.sub("", output)
    try:
        runs = json.loads(plain[plain.index("{") :])["runs"]
        if not runs:
            return None
        details = runs[0]["status-details"]
        return runs[0]["status"], "" if details == "N/A" else details
    except (KeyError, ValueError) as error:
        raise ConnectionError(f"flwr ls gave no status but {plain.strip()!r}") from error

"""A ClientApp around another one that notes when everything happened to each message.

In a deployment every message has a process of its own; so a note knows when that was started, how
long it imported, and how long it worked, by the clock and in seconds of CPU: the latter hardly
change when others keep the machine busy. Notes are files in the folder that the environment names.
"""

import json
import os
import time
from collections.abc import Callable
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import ParamSpec, TypeVar

import psutil
from flwr.app import Context, Message
from flwr.clientapp import ClientApp

FOLDER_VARIABLE = "MESSAGE_CLOCK_FOLDER"

P = ParamSpec("P")
R = TypeVar("R")


@dataclass(frozen=True)
class Moment:
    """A moment, or a span between two: seconds since the epoch, and of CPU since the start."""

    clock: float
    cpu: float

    @classmethod
    def now(cls) -> "Moment":
        """Read both clocks."""
        return cls(time.time(), time.process_time())

    def until(self, later: "Moment") -> "Moment":
        """Return the span from here to a later moment."""
        return Moment(later.clock - self.clock, later.cpu - self.cpu)


class ClockedApp(ClientApp):
    """Runs another app, and notes when.

    Parameters
    ----------
    app : ClientApp
        The other one.
    imports_begin : Moment
        When its imports began; they are over now.

    Attributes
    ----------
    training : Moment
        Span spent in functions that `timed` has wrapped.
    """

    def __init__(self, app: ClientApp, imports_begin: Moment) -> None:
        super().__init__()
        self.training = Moment(0.0, 0.0)
        self._app = app
        self._imports_begin = imports_begin
        self._imports_end = Moment.now()

    def __call__(self, message: Message, context: Context) -> Message:
        """Handle a message."""
        reply: Message = self._app(message, context)
        end = Moment.now()
        note = {
            "run_id": context.run_id,
            "node_id": context.node_id,
            "kind": message.metadata.message_type,
            "started": (psutil.Process().create_time(), 0.0),
            "imports_begin": astuple(self._imports_begin),
            "imports_end": astuple(self._imports_end),
            "end": astuple(end),
            "training": astuple(self.training),
        }
        path = Path(os.environ[FOLDER_VARIABLE]) / f"{os.getpid()}-{end.clock}.json"
        path.write_text(json.dumps(note), encoding="utf-8")
        return reply

    def timed(self, function: Callable[P, R]) -> Callable[P, R]:
        """Add the spans of a function's calls to `training`."""

        def wrapped(*args: P.args, **kwargs: P.kwargs) -> R:
            begin = Moment.now()
            try:
                return function(*args, **kwargs)
            finally:
                span, before = begin.until(Moment.now()), self.training
                self.training = Moment(before.clock + span.clock, before.cpu + span.cpu)

        return wrapped

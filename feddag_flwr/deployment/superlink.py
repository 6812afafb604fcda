"""The SuperLink as a user reaches it: Flower's command ``flwr``, at one connection."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any

from feddag_flwr.flower.commands import ANSI_STYLE, spawn
from feddag_flwr.flower.processes import child_environment


class SuperLink:
    """One connection of Flower's configuration.

    Parameters
    ----------
    home : Path
        ``FLWR_HOME``: holds the configuration, ``config.toml``.
    connection : str
        Name of the connection there; empty: the default one.
    errors : int or file
        Where errors of ``flwr`` go, by default where its output goes.
    """

    def __init__(
        self, home: Path, connection: str = "", errors: int | IO[str] = subprocess.STDOUT
    ) -> None:
        self.home = home
        self.connection = connection
        self._errors = errors

    def flower(self, arguments: list[str]) -> subprocess.Popen[str]:
        """Start ``flwr``; the name of the connection follows the command's own operands."""
        first = next((i for i, word in enumerate(arguments) if word.startswith("--")), None)
        operands, options = arguments[:first], [] if first is None else arguments[first:]
        named = [self.connection] if self.connection else []
        return spawn(
            "flwr",
            [*operands, *named, *options],
            subprocess.PIPE,
            errors=self._errors,
            folder=self.home,
            environment=child_environment(self.home),
        )

    def ask(self, arguments: Sequence[str], options: Sequence[str] = ()) -> dict[str, Any]:
        """Let ``flwr`` do something at once, and return its answer.

        Raises
        ------
        RuntimeError
            It says that it did not succeed; the message has its reason.
        """
        process = self.flower([*arguments, *options, "--format", "json"])
        text = ANSI_STYLE.sub("", process.communicate()[0])
        try:
            answer: dict[str, Any] = json.loads(text[text.index("{") :])
        except ValueError:
            answer = {}
        if process.returncode or not answer.get("success"):
            reason = answer.get("error-message") or text.strip() or "no answer"
            raise RuntimeError(f"flwr {' '.join(arguments)}: {reason}")
        return answer

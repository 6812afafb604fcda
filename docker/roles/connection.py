"""How the one-shot services reach the SuperLink: Flower's own command, with TLS."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from feddag_flwr.flower.commands import ANSI_STYLE, spawn
from feddag_flwr.flower.processes import HOME_VARIABLE, child_environment

CONFIGURATION = """\
[superlink]
default = "federation"

[superlink.federation]
address = {address}
root-certificates = {root_certificates}
"""


class Connection:
    """Flower's command ``flwr``, told where the SuperLink is.

    Parameters
    ----------
    control_api : str
        Address of the SuperLink's Control API, host:port.
    root_certificates : Path
        The authority's certificate.

    Attributes
    ----------
    home : Path
        The environment's ``FLWR_HOME``: holds the configuration.
    """

    def __init__(self, control_api: str, root_certificates: Path) -> None:
        self.home = Path(os.environ[HOME_VARIABLE])
        self.home.mkdir(parents=True, exist_ok=True)
        text = CONFIGURATION.format(
            address=json.dumps(control_api), root_certificates=json.dumps(str(root_certificates))
        )
        (self.home / "config.toml").write_text(text, encoding="utf-8")

    def flower(self, arguments: list[str]) -> subprocess.Popen[str]:
        """Start ``flwr``; its output is a pipe, its errors go where this process's go."""
        return spawn(
            "flwr",
            arguments,
            subprocess.PIPE,
            errors=sys.stderr,
            folder=self.home,
            environment=child_environment(self.home),
        )

    def ask(self, *arguments: str) -> dict[str, Any]:
        """Let ``flwr`` do something at once, and return its answer.

        Raises
        ------
        RuntimeError
            It says that it did not succeed; the message has its reason.
        """
        process = self.flower([*arguments, "--format", "json"])
        text = ANSI_STYLE.sub("", process.communicate()[0])
        try:
            answer: dict[str, Any] = json.loads(text[text.index("{") :])
        except ValueError:
            answer = {}
        if process.returncode or not answer.get("success"):
            reason = answer.get("error-message") or text.strip() or "no answer"
            raise RuntimeError(f"flwr {' '.join(arguments)}: {reason}")
        return answer

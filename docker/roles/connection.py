"""How the one-shot services reach the SuperLink: Flower's own command, with TLS."""

import json
import os
import subprocess
from pathlib import Path
from typing import Any

NAME = "federation"


def write_connection(control_api: str, root_certificates: str) -> None:
    """Write Flower's configuration into ``FLWR_HOME``.

    Parameters
    ----------
    control_api : str
        Address of the SuperLink's Control API, host:port.
    root_certificates : str
        Path of the authority's certificate.
    """
    home = Path(os.environ["FLWR_HOME"])
    home.mkdir(parents=True, exist_ok=True)
    text = f'address = "{control_api}"\nroot-certificates = "{root_certificates}"\n'
    (home / "config.toml").write_text(f"[superlink.{NAME}]\n{text}", encoding="utf-8")


def flwr(*arguments: str) -> dict[str, Any]:
    """Run ``flwr ARGUMENTS federation --format json``.

    Returns
    -------
    dict[str, Any]
        Its answer.

    Raises
    ------
    RuntimeError
        With Flower's own words, if it failed or its answer is no JSON.
    """
    command = ["flwr", *arguments, NAME, "--format", "json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    said = f"{done.stdout}{done.stderr}".strip()
    try:
        answer: dict[str, Any] = json.loads(done.stdout)
    except ValueError:
        raise RuntimeError(f"flwr {' '.join(arguments)}: {said}") from None
    if done.returncode or not answer.get("success"):
        raise RuntimeError(f"flwr {' '.join(arguments)}: {answer.get('error-message', said)}")
    return answer

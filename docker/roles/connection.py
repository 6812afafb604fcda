"""How the one-shot services reach the SuperLink: Flower's own command, with TLS."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

from feddag_flwr.deployment.superlink import SuperLink
from feddag_flwr.flower.processes import HOME_VARIABLE

NAME = "federation"
CONFIGURATION = """\
[superlink]
default = "{name}"

[superlink.{name}]
address = {address}
root-certificates = {root_certificates}
"""


def connect(control_api: str, root_certificates: Path) -> SuperLink:
    """Write Flower's configuration into the environment's ``FLWR_HOME``; return the connection.

    Parameters
    ----------
    control_api : str
        Address of the SuperLink's Control API, host:port.
    root_certificates : Path
        The authority's certificate.
    """
    home = Path(os.environ[HOME_VARIABLE])
    home.mkdir(parents=True, exist_ok=True)
    text = CONFIGURATION.format(
        name=NAME,
        address=json.dumps(control_api),
        root_certificates=json.dumps(str(root_certificates)),
    )
    (home / "config.toml").write_text(text, encoding="utf-8")
    return SuperLink(home, NAME, errors=sys.stderr)

"""The commands that go on with a run, export its models and predict with them."""

from __future__ import annotations

import shlex
from dataclasses import dataclass

from feddag_flwr.report.reading import RunRecord
from feddag_flwr.report.shown import plain


@dataclass(frozen=True)
class ShownCommand:
    """What a command does, and the command."""

    purpose: str
    line: str


def commands(run: RunRecord) -> list[ShownCommand]:
    """Return the commands that this folder allows; without checkpoints, that is a new report."""
    folder = shlex.quote(str(run.path))
    report = ShownCommand("write this page anew", f"feddag-flwr report {folder}")
    if not run.checkpoints:
        return [report]
    on = f"feddag-flwr run . --resume {folder}"
    found = [ShownCommand("go on, in the app's folder", on)]
    if run.summary is not None:
        rounds = 2 * (run.planned or run.last_round or 1)
        on = f"{on} --run-config num-rounds={rounds}"
        found = [ShownCommand("go on with more rounds, in the app's folder", on)]
    places = run.assignments
    cluster = min(places.values(), default=0)
    export = f"feddag-flwr export {folder} --cluster {cluster} --output cluster-{cluster}.pt"
    found.append(ShownCommand("export a cluster's model (.pt, or .onnx)", export))
    if places and plain(name := min(places)) == name:
        line = f"feddag-flwr predict {folder} --client={shlex.quote(name)} IMAGES"
        found.append(ShownCommand("predict with the model of a client", line))
    line = f"feddag-flwr predict {folder} --cluster {cluster} IMAGES"
    return [*found, ShownCommand("predict with the model of a cluster", line), report]

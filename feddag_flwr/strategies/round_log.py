"""One line a round: what ``metrics.jsonl`` and ``seconds.jsonl`` hold."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from flwr.app import MetricRecord

from feddag_flwr.metrics import Evaluation, mean_over_clients
from feddag_flwr.run_folder import RunFolder
from feddag_flwr.state import ServerState
from feddag_flwr.traffic import ARRAYS, LEAST, SENT, Counts, overhead, total


class RoundLog:
    """Gathers a round's line, and writes it once the round is over.

    Parameters
    ----------
    folder : RunFolder
        Where the lines go.

    Attributes
    ----------
    line : dict
        The line of the round under way.
    totals : dict of str to int
        Bytes of all rounds written, both ways, in the three ways of `feddag_flwr.traffic`.
    """

    def __init__(self, folder: RunFolder) -> None:
        self.line: dict[str, Any] = {}
        self.totals = dict.fromkeys((ARRAYS, SENT, LEAST), 0)
        self._folder = folder
        self._assignments: dict[str, int] = {}
        self._sources: tuple[tuple[int, ...], ...] = ()

    def note_evaluations(
        self, scope: str, evaluations: Mapping[str, Evaluation], assignments: Mapping[str, int]
    ) -> MetricRecord | None:
        """Add metrics under a name: overall, by cluster and by client.

        Returns
        -------
        MetricRecord or None
            The overall metrics; None without any evaluation.
        """
        overall = mean_over_clients(evaluations.values())
        by_cluster = {
            str(cluster): mean_over_clients(
                each for name, each in evaluations.items() if assignments[name] == cluster
            )
            for cluster in sorted({assignments[name] for name in evaluations})
        }
        by_client = {
            name: {
                "balanced-accuracy": each.balanced_accuracy,
                "accuracy": each.accuracy,
                "samples": each.samples,
            }
            for name, each in evaluations.items()
            if each.samples
        }
        self.line[scope] = {"overall": overall, "by-cluster": by_cluster, "by-client": by_client}
        return MetricRecord(dict(overall)) if evaluations else None

    def go_on(self, totals: Mapping[str, int], state: ServerState) -> None:
        """Count on from where a stopped run was."""
        self.totals = dict(totals)
        self._assignments = dict(state.assignments)
        self._sources = state.teachers

    def write(self, server_round: int, state: ServerState, traffic: Mapping[str, Counts]) -> None:
        """Write the round's line: traffic, who changed cluster, and who learns from whom now."""
        sums = {what: total(counts) for what, counts in traffic.items()}
        self.totals = {what: self.totals[what] + added for what, added in sums.items()}
        line = {"round": server_round, **self.line, "clusters": state.num_clusters, **traffic}
        line["overhead"] = overhead(sums)
        moved = {
            name: cluster
            for name, cluster in sorted(state.assignments.items())
            if self._assignments.get(name) != cluster
        }
        if moved:
            line["moved"] = moved
        if state.teachers != self._sources:
            line["teachers"] = [list(row) for row in state.teachers]
        self._assignments, self._sources = dict(state.assignments), state.teachers
        self._folder.append_line("metrics.jsonl", line)
        self.line = {}

    def write_seconds(self, server_round: int, seconds: Mapping[str, float]) -> None:
        """Write the seconds of a round, by phase."""
        self._folder.append_line("seconds.jsonl", {"round": server_round, **seconds})

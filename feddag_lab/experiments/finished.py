"""A finished trial: its files, read and checked against themselves."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from feddag_lab.experiments.layout import (
    ClientScore,
    DamagedResultsError,
    EvaluationRecord,
    RecordedSettings,
    RoundLine,
    RunSummary,
    read_lines,
    read_record,
    read_text,
)
from feddag_lab.experiments.product import adjusted_rand_index, under_new_names

# Messages that only measure; every other kind is part of what an algorithm needs for its models.
EVALUATION_KINDS = ["evaluate"]
# A run's own mean and that of its clients may differ by rounding alone.
MEAN_TOLERANCE = 1e-9
# One row a client; `part` says whether training saw the client. Shares, not percent.
CLIENT_COLUMNS = (
    "client", "part", "samples", "balanced-accuracy", "accuracy", "tuned-balanced-accuracy",
    "tuned-accuracy", "cluster", "true-group",
)  # fmt: skip

Scores = Mapping[str, ClientScore]


@dataclass(frozen=True, eq=False)
class FinishedTrial:
    """What a finished trial left, all of it after its last round.

    Attributes
    ----------
    figures : dict of str to number or None
        Of the whole run. Accuracies are means over clients, each counted once, as shares.
        ``best-..`` is the clustering nearest the true groups that the run went through, the first
        of equals: only who knows the groups can choose it. ``bytes-per-client`` are both ways and
        of all messages, ``training-bytes-per-client`` without `EVALUATION_KINDS`.
    clients : DataFrame
        `CLIENT_COLUMNS`, one row a client.
    curve : DataFrame
        Of each round with an evaluation of all clients (the index), their mean balanced
        ``accuracy`` and the training ``bytes`` a client up to and with that round.
    settings : dict
        ``settings.json``.
    true_groups : dict of str to int
    folder : Path
        Where the run's files are.
    main : str
        The part of the clients whose figure is the trial's main one: ``unseen`` where the
        scenario keeps some out of training, else ``seen``.
    """

    figures: dict[str, Any]
    clients: pd.DataFrame
    curve: pd.DataFrame
    settings: dict[str, Any]
    true_groups: Mapping[str, int]
    folder: Path
    main: str

    @property
    def judged(self) -> pd.DataFrame:
        """The clients of the main figure, by name; none where these have no model."""
        return self.clients[self.clients["part"] == self.main].set_index("client")


def mean_balanced_accuracy(scores: Scores) -> float:
    """Mean over clients, each counted once, as a share."""
    return float(np.mean([score.balanced_accuracy for score in scores.values()]))


def read_trial(path: Path, seed: int) -> FinishedTrial:
    """Read one run's folder and check it against itself.

    Parameters
    ----------
    path : Path
        The folder.
    seed : int
        The seed that the run must have had.

    Raises
    ------
    DamagedResultsError
        A file is missing or malformed; a round is missing or there twice; the last round of the
        settings has no evaluation of all clients; a mean is not that of its clients; or bytes
        do not add up to the summary's.
    """
    settings = read_record(RecordedSettings, path / "settings.json")
    lines = read_lines(path / "metrics.jsonl")
    summary = read_record(RunSummary, path / "summary.json")
    if settings.seed != seed:
        raise DamagedResultsError(f"settings.json: seed is {settings.seed}, not {seed}")
    _check_rounds([line.round for line in lines], settings.num_rounds)
    last = lines[-1]
    scores = {"": _required(last), "tuned-": _scores(last.tuned, "tuned"),
              "unseen-": _scores(last.unseen, "unseen"),
              "unseen-tuned-": _scores(last.unseen_tuned, "unseen-tuned")}  # fmt: skip
    members = sum(len(cluster.members) for cluster in summary.clusters)
    clients = members + len(summary.without_cluster) or settings.num_clients
    sent = pd.DataFrame([Counter(line.bytes.down) + Counter(line.bytes.up) for line in lines])
    total = float(sent.sum().sum()) / clients
    if summary.bytes_per_client is not None and abs(total - summary.bytes_per_client) > 1:
        raise DamagedResultsError(
            f"metrics.jsonl adds up to {total:.0f} bytes a client, "
            f"summary.json says {summary.bytes_per_client}"
        )
    training = sent.drop(columns=EVALUATION_KINDS, errors="ignore").sum(axis=1).cumsum() / clients
    accuracy = {line.round: mean_balanced_accuracy(_required(line)) for line in lines if line.all}
    curve = pd.DataFrame({"accuracy": accuracy}).assign(bytes=training)
    history = list(_clusterings(lines))
    figures = {
        **_means(scores),
        "adjusted-rand-index": summary.adjusted_rand_index,
        "clusters": _inhabited(summary),
        "bytes-per-client": total,
        "training-bytes-per-client": float(training.iloc[-1]),
        **_best_round(history, summary.true_groups),
    }
    clusters = history[-1][1] if history else {}
    return FinishedTrial(
        figures,
        _client_rows(scores, clusters, summary.true_groups),
        curve,
        under_new_names(json.loads(read_text(path / "settings.json"))),
        summary.true_groups,
        path,
        "unseen" if settings.held_out_share > 0 else "seen",
    )


def _means(scores: Mapping[str, Scores | None]) -> dict[str, float | int | None]:
    found: dict[str, float | int | None] = {}
    for prefix, each in scores.items():
        if "tuned" not in prefix:
            found[f"{prefix}clients"] = len(each) if each else None
        found[f"{prefix}balanced-accuracy"] = mean_balanced_accuracy(each) if each else None
        found[f"{prefix}accuracy"] = (
            float(np.mean([score.accuracy for score in each.values()])) if each else None
        )
    return found


def _client_rows(
    scores: Mapping[str, Scores | None], clusters: Mapping[str, int], groups: Mapping[str, int]
) -> pd.DataFrame:
    rows = []
    for part, prefix in (("seen", ""), ("unseen", "unseen-")):
        tuned = scores[f"{prefix}tuned-"] or {}
        for name, score in (scores[prefix] or {}).items():
            after = tuned.get(name)
            rows.append(
                (name, part, score.samples, score.balanced_accuracy, score.accuracy,
                 after and after.balanced_accuracy, after and after.accuracy,
                 clusters.get(name), groups.get(name))
            )  # fmt: skip
    # As objects: a client without a cluster must not make the others' numbers floats.
    return pd.DataFrame(rows, columns=list(CLIENT_COLUMNS), dtype=object)


def _clusterings(lines: Iterable[RoundLine]) -> Iterator[tuple[int, dict[str, int]]]:
    """Yield each client's cluster after every round in which one changed."""
    clusters: dict[str, int] = {}
    for line in lines:
        if line.moved:
            clusters = clusters | line.moved
            yield line.round, clusters


def _best_round(
    history: Iterable[tuple[int, Mapping[str, int]]], true_groups: Mapping[str, int]
) -> dict[str, float | int | None]:
    names = ("best-rand-index", "best-clusters", "best-round")
    found = [
        (index, len(set(clusters.values())), number)
        for number, clusters in history
        if (index := adjusted_rand_index(clusters, true_groups)) is not None
    ]
    best = max(found, key=lambda each: each[0], default=(None, None, None))
    return dict(zip(names, best, strict=True))


def _inhabited(summary: RunSummary) -> int:
    """Count the clusters with members; models that nobody chose are none."""
    if not summary.clusters:
        return summary.num_clusters
    return sum(bool(cluster.members) for cluster in summary.clusters)


def _check_rounds(rounds: list[int], num_rounds: int) -> None:
    """Refuse a run that did not reach its last round, so that no other can stand in for it."""
    if rounds == list(range(num_rounds + 1)):
        return
    if not rounds or max(rounds) < num_rounds:
        last = max(rounds) if rounds else "none"
        raise DamagedResultsError(f"metrics.jsonl: the last round is {last}, not {num_rounds}")
    raise DamagedResultsError(f"metrics.jsonl: rounds are not 0, 1, .. {num_rounds}, each once")


def _required(line: RoundLine) -> Scores:
    scores = _scores(line.all, "all")
    if scores is None:
        raise DamagedResultsError(
            f"metrics.jsonl: round {line.round} has no evaluation of all clients"
        )
    return scores


def _scores(evaluation: EvaluationRecord | None, scope: str) -> Scores | None:
    """Return the clients' figures by name, once their mean is what the run wrote."""
    if evaluation is None or not evaluation.by_client:
        return None
    scores = dict(sorted(evaluation.by_client.items()))
    own = evaluation.overall.balanced_accuracy
    recounted = mean_balanced_accuracy(scores)
    if own is None or abs(own - recounted) > MEAN_TOLERANCE:
        raise DamagedResultsError(
            f"metrics.jsonl: {scope}: balanced accuracy is {own} overall, but its clients' mean "
            f"is {recounted}"
        )
    return scores

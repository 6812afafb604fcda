"""The models that do best on data held back, and runs that end once nothing gets better."""

from __future__ import annotations

import json
import logging
from types import SimpleNamespace

import numpy as np
import pytest
from memory_grid import quick_settings, run_quickly

from feddag_flwr.checkpoints import newest_checkpoint
from feddag_flwr.checkpoints.folder import CheckpointFolder
from feddag_flwr.engine.best_round import BestRound
from feddag_flwr.records import EvaluateRequest
from feddag_flwr.settings import Settings, SettingsError
from feddag_flwr.simulation import run_in_process

HELD_BACK = {"validation_share": 0.3, "evaluate_every": 1}


class Told:
    """A federation of one client and one cluster, whose looks come to what is told."""

    def __init__(self, figures, *, keep="best-validation", patience=0, metric="accuracy"):
        self.settings = quick_settings(
            keep=keep, patience=patience, metrics=metric, validation_share=0.3
        )
        self.figures = iter(figures)
        self.state = SimpleNamespace(assignments={"a": 0}, models=[{}], num_clusters=1)
        self.best = BestRound(self, self)

    def connected(self, names):
        return names

    def evaluate_request(self, server_round, name, epochs):
        return EvaluateRequest(None, {})

    def ask(self, requests):
        assert all(request.held_back for request in requests)
        figure = next(self.figures)
        evaluation = SimpleNamespace(samples=1, figures=lambda: {self.metric: figure})
        return {"a": SimpleNamespace(evaluation=evaluation)}

    @property
    def metric(self):
        return self.settings.run.metrics

    def look(self, server_round):
        self.state.models = [{"round": server_round}]
        return self.best.look(server_round)


def test_the_best_round_is_kept_the_first_of_equals():
    told = Told([0.5, 0.8, 0.8, 0.6])
    assert [told.look(r)["best-round"] for r in range(1, 5)] == [1, 2, 2, 2]
    told.best.keep(4)
    assert told.state.models == [{"round": 2}]


def test_of_a_loss_the_smallest_is_best():
    told = Told([0.5, 0.2, 0.8], metric="loss")
    assert [told.look(r)["best-round"] for r in range(1, 4)] == [1, 2, 2]


def test_the_last_round_stays_where_that_is_asked_for():
    told = Told([0.8, 0.5], keep="last", patience=5)
    for server_round in (1, 2):
        told.look(server_round)
    told.best.keep(2)
    assert told.state.models == [{"round": 2}]


def test_patience_counts_looks_on_end():
    told = Told([0.5, 0.4, 0.6, 0.6, 0.5], patience=2)
    over = []
    for server_round in range(1, 6):
        told.look(server_round)
        over.append(told.best.is_over)
    assert over == [False, False, False, False, True]


def test_another_number_of_clusters_begins_anew():
    told = Told([0.9, 0.5])
    told.look(1)
    told.state.num_clusters = 2
    told.state.models = [{}, {}]
    assert told.best.look(2)["best-round"] == 2


def test_nothing_is_best_where_nobody_holds_anything_back():
    told = Told([float("nan"), float("nan")], patience=2)
    assert [told.look(r)["best-round"] for r in (1, 2)] == [0, 0]
    told.best.keep(2)
    assert told.state.models == [{"round": 2}]


def test_what_a_checkpoint_keeps_comes_back():
    told, again = Told([]), Told([0.7])
    told.best.load({}, {"round": 0, "value": None, "passed": 3})
    assert told.best.notes() == {"round": 0, "value": None, "passed": 3}
    again.best.load({}, {"round": 4, "value": 0.8, "passed": 1})
    assert again.best.notes()["value"] == 0.8


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"keep": "best-validation"}, "keep = 'best-validation': needs data held back"),
        ({"patience": 3}, "patience = 3: needs data held back"),
        (
            {"keep": "best-validation", "validation-share": 0.2, "algorithm": "fedsoft"},
            "keep = 'best-validation': must be 'last' with algorithm = 'fedsoft'",
        ),
    ],
)
def test_what_cannot_be_is_refused(given, told):
    with pytest.raises(SettingsError, match=told):
        Settings.from_run_config(given)


@pytest.mark.integration
@pytest.mark.parametrize("algorithm", ["feddag", "fedavg", "ifca"])
def test_a_run_ends_with_the_best_rounds_models(tmp_path, algorithm):
    """The same run without: its checkpoint of the best round has the models that are kept."""
    own = {"algorithm": algorithm, "num_rounds": 4, "learning_rate": 2.0, **HELD_BACK}
    plain, _ = run_quickly(
        tmp_path, name="plain", keep_checkpoints=9, observers="round-log, checkpoints", **own
    )
    kept, _ = run_quickly(tmp_path, name="kept", keep="best-validation", **own)
    lines = [json.loads(line) for line in (kept.folder.path / "metrics.jsonl").open()]
    looks = {line["round"]: line["validation"]["overall"] for line in lines if "validation" in line}
    best = max(looks, key=lambda r: (looks[r]["balanced-accuracy"], -r))
    summary = json.loads((kept.folder.path / "summary.json").read_text())
    assert summary["validation"] == {"best-round": best, "kept": "best-validation"}
    then = CheckpointFolder(plain.folder.path / "checkpoints", 9).read(best).state.models
    for ours, theirs in zip(kept.state.models, then, strict=True):
        assert all(weights.equals(theirs[part]) for part, weights in ours.items())


@pytest.mark.integration
def test_a_run_that_gets_no_better_ends_early_and_can_go_on(tmp_path, caplog):
    settings = quick_settings(
        run_dir=str(tmp_path), run_name="early", algorithm="fedavg", num_rounds=12,
        learning_rate=1e-9, patience=2, **HELD_BACK,
    )  # fmt: skip
    with caplog.at_level(logging.INFO, logger="flwr"):
        path = run_in_process(settings)
    assert "patience is over" in caplog.text
    rounds = [json.loads(line)["round"] for line in (path / "metrics.jsonl").open()]
    assert rounds[-1] < 12
    assert newest_checkpoint(path).notes["best-round"]["passed"] == 2


@pytest.mark.integration
def test_nobody_trains_on_what_is_held_back(tmp_path):
    strategy, _ = run_quickly(tmp_path, algorithm="fedavg", num_rounds=1, **HELD_BACK)
    whole, _ = run_quickly(tmp_path, name="whole", algorithm="fedavg", num_rounds=1)
    counts, all_counts = (
        np.array([client.train_samples for client in run.state.clients.values()])
        for run in (strategy, whole)
    )
    assert (counts < all_counts).all()

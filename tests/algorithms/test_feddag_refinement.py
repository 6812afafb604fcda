"""Clusters refined by held-back losses: on a federation of points, and on digits."""

import json
import logging
from dataclasses import replace

import numpy as np
import pytest
from algorithm_bench import Bench
from memory_grid import TRAINING, MemoryGrid, quick_settings, replace_array, run_quickly
from sklearn.metrics import adjusted_rand_score

from feddag_flwr.aggregation import Weights
from feddag_flwr.algorithms.feddag.draft import Draft
from feddag_flwr.algorithms.feddag.messages import DualTrainRequest
from feddag_flwr.algorithms.feddag.server import FedDAG
from feddag_flwr.algorithms.feddag.training_from_one import trained_from_one
from feddag_flwr.engine.runs import open_run
from feddag_flwr.records import TrainReply, ValidationLosses
from feddag_flwr.settings import Settings
from feddag_flwr.state import Client, ServerState

SIZE = 6  # of a model


class Points(Bench):
    """Clients whose samples are points: a model is a point, its loss the squared distance.

    Training goes halfway from the model received to the mean of the client's points.
    """

    def __init__(self, tmp_path, groups, labels, *, seed=0, own=0.1, spread=0.5, **settings):
        config = {
            "run-dir": str(tmp_path), "refine-every": 1, "validation-share": 0.2,
            "secondary": "none", **settings,
        }  # fmt: skip
        super().__init__(FedDAG, Settings.from_run_config(config))
        self.rng = np.random.default_rng(seed)
        self.groups = np.array(groups)
        self.names = [f"client-{number:02d}" for number in range(len(groups))]
        self.away, self.silent, self.lies = set(), set(), {}
        centres = self.rng.normal(size=(len(groups), SIZE)) * own + np.eye(SIZE)[self.groups] * 3
        self.centres = dict(zip(self.names, centres, strict=True))
        self.held_back = {
            name: centre + spread * self.rng.normal(size=(24, SIZE))
            for name, centre in self.centres.items()
        }
        clients = {name: Client(name, 10, 1) for name in self.names}
        self.state = ServerState(("x", "y"), (1, 8, 8), ((0.0, 1.0),), clients)
        self.state.set_clusters(self.names, labels, [self.model() for _ in set(labels)])
        self.context.ask = self.ask
        self.context.connected = lambda names: [name for name in names if name not in self.away]
        self.rounds = 0

    def model(self):
        start = np.zeros(SIZE, np.float32)
        return {"primary": Weights(start), "classifier": Weights(start[:1])}

    def ask(self, requests):
        replies = {}
        for request in requests:
            name = request.header.client
            if isinstance(request, DualTrainRequest):
                if name not in self.silent:
                    replies[name] = self.trained(name, request.parts)
                continue
            points = np.stack([model["primary"].floats for model in request.models()])
            trained_on = self.centres[name] + np.zeros((24, 1))
            away = points[:, None] - (trained_on if request.trained_on else self.held_back[name])
            losses = ValidationLosses.of(np.square(away).sum(axis=2), np.arange(24) % 3)
            losses = self.lies.get(name, lambda losses: losses)(losses)
            if losses is not None:
                replies[name] = losses
        return dict(sorted(replies.items()))

    def train(self, count=1):
        for _ in range(count):
            self.rounds += 1
            replies = {}
            for name in self.names:
                if name in self.away | self.silent:
                    continue
                replies[name] = self.trained(name, self.model_of(name))
            self.aggregate(self.rounds, replies, asked=self.names)

    def trained(self, name, start):
        away = self.centres[name] - start["primary"].floats + 0.3 * self.rng.normal(size=SIZE)
        moved = start["primary"].floats + 0.5 * away
        return TrainReply(10, start | {"primary": Weights(moved.astype(np.float32))}, start)

    @property
    def labels(self):
        return [self.state.assignments[name] for name in self.names]

    @property
    def rand_index(self):
        return adjusted_rand_score(self.groups, self.labels)

    @property
    def changes(self):
        return [each for check in self.algorithm._refiner.history for each in check["changes"]]


THREE = np.arange(18) % 3
STARTS = {
    "one": np.zeros(18, int),
    "random": np.random.default_rng(1).permutation(THREE),
    "merged": np.maximum(THREE - 1, 0),
}


@pytest.mark.parametrize("start", STARTS)
@pytest.mark.parametrize("seed", range(3))
def test_a_wrong_clustering_is_mended(tmp_path, start, seed):
    points = Points(tmp_path, THREE, STARTS[start].tolist(), seed=seed)
    points.train(5)
    assert points.rand_index == 1.0


@pytest.mark.parametrize("seed", range(3))
def test_a_right_clustering_is_left_alone(tmp_path, seed):
    points = Points(tmp_path, THREE, THREE.tolist(), seed=seed)
    points.train(50)
    assert points.labels == THREE.tolist() and points.changes == []


@pytest.mark.parametrize("seed", range(3))
def test_clients_of_one_kind_stay_together(tmp_path, seed):
    points = Points(tmp_path, np.zeros(18, int), [0] * 18, seed=seed)
    points.train(50)
    assert points.changes == []


@pytest.mark.parametrize("seed", range(3))
def test_clients_of_one_kind_are_not_parted_otherwise(tmp_path, seed):
    points = Points(tmp_path, np.zeros(18, int), STARTS["random"].tolist(), seed=seed)
    points.train(8)
    assert {change["kind"] for change in points.changes} <= {"merge", "move"}


# -- faults ----------------------------------------------------------------------------------------


def scaled(factor):
    def lie(losses):
        claimed = losses.losses * factor
        return ValidationLosses(losses.samples, losses.freedom, claimed, losses.covariance)

    return lie


def favourite(losses):
    """Claim that the last model asked about is perfect and all others are worthless."""
    claimed = np.full_like(losses.losses, 1e9)
    claimed[-1] = 0.0
    nothing = np.zeros_like(losses.covariance)
    return ValidationLosses(losses.samples, losses.freedom, claimed, nothing)


@pytest.mark.parametrize("lie", [favourite, scaled(-1.0), lambda losses: None])
def test_a_liar_moves_nobody_but_itself(tmp_path, lie):
    points = Points(tmp_path, THREE, THREE.tolist())
    points.lies["client-04"] = lie
    points.train(10)
    others = [number for number in range(18) if number != 4]
    assert [points.labels[n] for n in others] == [THREE[n] for n in others]


def test_a_liar_prevents_no_split(tmp_path):
    points = Points(tmp_path, THREE, STARTS["merged"].tolist())
    points.lies["client-04"] = scaled(-1.0)
    points.train(5)
    others = [number for number in range(18) if number != 4]
    found = adjusted_rand_score(THREE[others], np.array(points.labels)[others])
    assert found == 1.0


def test_who_is_away_keeps_its_cluster_and_who_does_not_train_is_placed(tmp_path):
    points = Points(tmp_path, THREE, STARTS["merged"].tolist())
    points.away, points.silent = {"client-03"}, {"client-05"}
    points.train(3)
    assert points.state.assignments["client-03"] in {0, points.state.assignments["client-00"]}
    assert points.state.assignments["client-05"] == points.state.assignments["client-02"]


def test_a_check_in_which_nobody_answers_changes_nothing(tmp_path):
    points = Points(tmp_path, THREE, STARTS["one"].tolist())
    points.lies = dict.fromkeys(points.names, lambda losses: None)
    points.train(2)
    assert points.labels == [0] * 18 and points.changes == []


# -- what is told and kept -------------------------------------------------------------------------


def test_changes_are_logged_and_told_with_their_gain(tmp_path, caplog):
    points = Points(tmp_path, THREE, STARTS["merged"].tolist())
    with caplog.at_level(logging.INFO, logger="flwr"):
        points.train(1)
    (change,) = points.algorithm.told()["refined"]
    assert (change["kind"], change["from"], change["to"]) == ("split", [0], [0, 2])
    assert change["clients"] == [6, 6] and change["loss-after"] < change["loss-before"]
    assert "refined at round 1: cluster 0 split in 2 (6 and 6 clients), held-back loss" in (
        caplog.text
    )
    written = json.loads((tmp_path / "refinements.json").read_text())["refinements"]
    assert written == [{"round": 1, "changes": [change]}]
    points.train(1)
    assert points.algorithm.told() == {"refined": []}
    assert "clusters confirmed at round 2: nobody moves" in caplog.text


def test_parts_start_from_what_their_members_have_trained(tmp_path):
    points = Points(tmp_path, THREE, STARTS["merged"].tolist())
    points.train(1)
    for cluster in range(3):
        members = [member.name for member in points.state.members(cluster)]
        centre = np.mean([points.centres[name] for name in members], axis=0)
        model = points.state.models[cluster]["primary"].floats
        assert np.abs(model - 0.5 * centre).max() < 0.5  # halfway from zero


def test_each_change_halves_the_level_and_five_are_the_most(tmp_path):
    points = Points(tmp_path, THREE, THREE.tolist())
    refiner = points.algorithm._refiner
    levels = []
    for count in range(7):
        refiner._moved.update({"client-00": count - refiner._moved["client-00"]})
        levels.append(refiner._halved(0.32, ["client-00"]))
    assert levels == pytest.approx([0.32, 0.16, 0.08, 0.04, 0.02, 0.0, 0.0])
    assert refiner._halved(0.32, ["client-00", "client-01"]) == 0.32  # one of two never moved


def test_its_state_goes_through_a_checkpoint(tmp_path):
    points = Points(tmp_path, THREE, STARTS["merged"].tolist())
    points.train(2)
    refiner = points.algorithm._refiner
    notes = json.loads(json.dumps(refiner.notes()))
    other = Points(tmp_path, THREE, THREE.tolist()).algorithm._refiner
    other.load(notes, refiner.arrays())
    assert json.loads(json.dumps(other.notes())) == notes
    assert other.notes() == points.algorithm._refiner.notes()
    assert (
        notes["checks"] == 2 and set(notes["moved"].values()) == {1} and len(notes["moved"]) == 12
    )


def test_a_check_trains_from_the_mean_of_all_models(tmp_path):
    points = Points(tmp_path, THREE, THREE.tolist())
    points.train(1)
    for cluster, model in enumerate(points.state.models):
        model["primary"] = Weights(np.full(SIZE, 3.0 * cluster, np.float32))
    base, trained = trained_from_one(points.context, 2)
    assert base["primary"].floats == pytest.approx(np.full(SIZE, 3.0))
    assert sorted(trained.replies) == points.names
    assert all(
        reply.starts["primary"].equals(base["primary"]) for reply in trained.replies.values()
    )


def test_only_what_the_run_can_use_is_compared(tmp_path):
    points = Points(tmp_path, THREE, THREE.tolist())
    points.away = {"client-07"}

    def usable(replies, server_round):
        assert server_round == 5
        return {name: reply for name, reply in replies.items() if name != "client-04"}

    points.context.usable = usable
    _, trained = trained_from_one(points.context, 5)
    assert set(points.names) - trained.replies.keys() == {"client-04", "client-07"}


def test_two_hundred_are_drawn_where_more_are_there(tmp_path):
    many = np.zeros(210, int)
    points = Points(tmp_path, many, many.tolist())
    drawn = [sorted(trained_from_one(points.context, number)[1].replies) for number in (1, 1, 2)]
    assert [len(names) for names in drawn] == [200] * 3
    assert drawn[0] == drawn[1] != drawn[2]


def test_parts_keep_the_numbers_of_the_clusters_that_most_of_them_come_from():
    draft = Draft({"a": 0, "b": 0, "c": 1, "d": 1, "e": 1, "f": 3, "g": 1}, {}, 5)
    parts = {"a": ("a", "c", "d"), "c": ("a", "c", "d"), "d": ("a", "c", "d"), "b": ("b",)}
    parts |= {"e": ("e",), "f": ("f",)}
    assert draft.part((0, 1, 3), parts) == (1, 0, 2, 3)
    # The new part of e alone has a number that nobody is in; g, in no part, goes with most of 1.
    assert draft.assignments == {"a": 1, "b": 0, "c": 1, "d": 1, "e": 2, "f": 3, "g": 1}
    assert draft.changed == {0, 1, 2, 3} and draft.clusters == 5
    other = Draft({"a": 0, "b": 0}, {"a": 0, "b": 0}, 1)
    assert other.part((0,), {"a": ("a",), "b": ("b",)}) == (0, 1)
    assert other.clusters == 2 and other.choices == {"a": ("a",), "b": ("b",)}


def test_random_groups_are_regrouped_in_one_check(tmp_path, caplog):
    points = Points(tmp_path, THREE, STARTS["random"].tolist())
    with caplog.at_level(logging.INFO, logger="flwr"):
        points.train(1)
    (change,) = points.changes
    assert points.rand_index == 1.0 and change["kind"] == "regroup"
    assert change["from"] == [0, 1, 2] and change["clients"] == [6, 6, 6]
    assert "clusters 0, 1, 2 regrouped into" in caplog.text


# -- on digits -------------------------------------------------------------------------------------

DIGITS = {
    "num_clients": 10,
    "client_groups": 2,
    "participation": 0.5,
    "num_rounds": 3,
    "local_epochs": 2,
    "batch_size": 16,
    "validation_share": 0.25,
    "refine_every": 2,
    "evaluate_every": 3,
    "observers": "round-log, checkpoints, closing-table",
}
LIAR = 3


class Killed(BaseException):
    """The process is gone."""


def nonsense(partition, action, message):
    if partition == LIAR and action == "query.validation_losses":
        return replace_array(message, "number.losses", np.array([np.nan]))
    return message


@pytest.fixture
def together(monkeypatch):
    """Let all clients begin in one cluster."""
    cluster = FedDAG._cluster

    def forced(self, profiles):
        found = cluster(self, profiles)
        labels, chosen = np.zeros_like(found.labels), replace(found.chosen, num_clusters=1)
        return replace(found, labels=labels, chosen=chosen)

    monkeypatch.setattr(FedDAG, "_cluster", forced)


@pytest.mark.integration
@pytest.mark.parametrize("encoders", ["two", "one"])
def test_a_resumed_run_is_the_uninterrupted_one_and_a_liar_costs_its_say(
    tmp_path, together, caplog, encoders
):
    def die(partition, action, message):
        if action in TRAINING and message.content.config_records["info"]["round"] == 3:
            raise Killed
        return nonsense(partition, action, message)

    changes = DIGITS | {"encoders": encoders}
    whole, grid = run_quickly(tmp_path, name="whole", tamper=nonsense, **changes)
    assert "client client-3 is left out: array 'number.losses'" in caplog.text
    assert sum(action == "train.dual" for action, _ in grid.sent) == 5 + 5 + 10 + 5
    text = (tmp_path / "whole" / "metrics.jsonl").read_text()
    lines = [json.loads(line) for line in text.splitlines()]
    (split,) = lines[2]["refined"]
    assert split["kind"] == "split" and split["loss-after"] < split["loss-before"]
    truth, names = whole.context.true_groups, sorted(whole.state.clients)
    names.remove(f"client-{LIAR}")  # it follows the largest part, right or wrong
    labels = [whole.state.assignments[name] for name in names]
    assert adjusted_rand_score([truth[name] for name in names], labels) == 1.0
    with pytest.raises(Killed):
        run_quickly(tmp_path, name="stopped", tamper=die, **changes)
    settings = quick_settings(run_dir=str(tmp_path), resume=str(tmp_path / "stopped"), **changes)
    open_run(settings).start(MemoryGrid(settings, seed=2, tamper=nonsense))
    for path in ("metrics.jsonl", "summary.json", "checkpoints/round-000003/manifest.json"):
        stopped, expected = (tmp_path / name / path for name in ("stopped", "whole"))
        assert stopped.read_bytes() == expected.read_bytes(), path


@pytest.mark.integration
@pytest.mark.parametrize(
    "sharing", [{"secondary": "own"}, {"teacher_clusters": "graph", "classifier_training": "joint"}]
)
def test_who_learns_from_whom_follows_a_split_newcomers_and_drift(tmp_path, together, sharing):
    changes = DIGITS | {
        "newcomer_share": 0.2, "newcomer_round": 1, "drift_share": 0.2, "drift_round": 2,
        "num_rounds": 5, "evaluate_every": 5,
    }  # fmt: skip
    strategy, _ = run_quickly(tmp_path, **changes, **sharing)
    state = strategy.context.state
    assert set(state.assignments) == set(state.clients) and len(state.clients) == 10
    text = (tmp_path / "run" / "metrics.jsonl").read_text()
    lines = [json.loads(line) for line in text.splitlines()]
    kinds = [change["kind"] for line in lines for change in line.get("refined", [])]
    assert "split" in kinds and any(line.get("placed") for line in lines)
    there = set(state.assignments.values())
    assert len(there) >= 2
    for cluster, row in enumerate(state.teachers):
        assert set(row) <= there and (cluster in there or not row)
        if sharing.get("secondary") == "own":
            assert list(row) == ([cluster] if cluster in there else [])

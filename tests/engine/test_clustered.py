import functools
import json
import logging

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord
from memory_grid import (
    TRAINING,
    MemoryGrid,
    array_of,
    failed,
    quick_settings,
    replace_array,
    run_quickly,
)

from feddag_flwr.algorithm_names import ALGORITHMS
from feddag_flwr.checkpoints import newest_checkpoint
from feddag_flwr.engine.registration import FederationError
from feddag_flwr.engine.runs import build_strategy, open_run
from feddag_flwr.run_folder import RunFolder

pytestmark = pytest.mark.integration

FEDAVG = {"algorithm": "fedavg", "num_rounds": 2, "participation": 1.0, "evaluate_every": 2}
KEPT = "round-log, checkpoints"


def lines(tmp_path, name="run"):
    text = (tmp_path / name / "metrics.jsonl").read_text()
    return [json.loads(line) for line in text.splitlines()]


def floats(state):
    return [weights.floats for model in state.models for weights in model.values()]


def same_models(one, two):
    return all((a == b).all() for a, b in zip(floats(one), floats(two), strict=True))


# -- a run without faults -------------------------------------------------------------------------


@functools.cache
def plain_run(shared_folder):
    """A run without faults, for the tests that only look at it: its parent folder, its strategy."""
    folder = shared_folder / "plain"
    return folder, run_quickly(folder, observers=KEPT)[0]


@pytest.mark.parametrize("algorithm", ["fedavg", "feddag"])
def test_the_order_of_nodes_and_replies_changes_nothing(tmp_path, algorithm):
    """Of every algorithm the tests of resumed runs say so: their replies come in other orders."""
    one, _ = run_quickly(tmp_path, name="one", grid_seed=1, algorithm=algorithm)
    two, _ = run_quickly(tmp_path, name="two", grid_seed=2, algorithm=algorithm)
    files = [(tmp_path / name / "metrics.jsonl").read_bytes() for name in ("one", "two")]
    assert files[0] == files[1]
    assert same_models(one.state, two.state)
    assert one.state.assignments == two.state.assignments


@pytest.mark.parametrize("algorithm", sorted(ALGORITHMS))
def test_no_reply_is_lost_whatever_the_settings_of_evaluation(tmp_path, caplog, algorithm):
    with caplog.at_level(logging.WARNING, logger="flwr"):
        run_quickly(
            tmp_path,
            algorithm=algorithm,
            evaluate_participants=False,
            personalisation_epochs=1,
            num_rounds=1,
            num_clients=4,
            client_groups=2,
        )
    assert "left out" not in caplog.text
    found = lines(tmp_path)
    assert found[1]["participants"]["overall"] == {"clients": 0}
    assert ["personalised" in line for line in found] == [False, True]


def test_another_seed_is_another_run(tmp_path):
    changes = FEDAVG | {"num_rounds": 1}
    one, _ = run_quickly(tmp_path, name="one", **changes)
    two, _ = run_quickly(tmp_path, name="two", **changes | {"seed": 2})
    assert not same_models(one.state, two.state)


def test_fedavg_is_one_cluster_and_the_data_weighted_mean(tmp_path):
    arrived = {}

    def tamper(partition, action, reply):
        if action in TRAINING:
            arrived[partition] = (
                reply.content.config_records["info"]["samples"],
                array_of(reply, "primary.floats"),
            )
        return reply

    strategy, _ = run_quickly(tmp_path, tamper=tamper, **FEDAVG | {"num_rounds": 1})
    assert set(strategy.state.assignments.values()) == {0}
    samples, vectors = zip(*(arrived[partition] for partition in range(6)), strict=True)
    np.testing.assert_allclose(
        strategy.state.models[0]["primary"].floats,
        np.average(np.array(vectors, np.float64), axis=0, weights=samples),
        atol=1e-7,
    )
    assert list(strategy.state.models[0]) == ["primary", "classifier"]


def test_a_round_draws_the_share_asked_for(tmp_path):
    strategy, grid = run_quickly(
        tmp_path, algorithm="fedavg", participation=0.5, num_rounds=4, evaluate_every=4
    )
    drawn = [tuple(line["sampled"]) for line in lines(tmp_path)[1:]]
    assert all(len(names) == 3 and list(names) == sorted(names) for names in drawn)
    assert len(set(drawn)) > 1
    assert sum(action in TRAINING for action, _ in grid.sent) == 12
    assert strategy.algorithm.sample_clients(1) == list(drawn[0])


def test_the_largest_client_is_asked_first(tmp_path):
    strategy, grid = run_quickly(tmp_path, **FEDAVG | {"num_rounds": 1})
    asked = [
        strategy.context.clients.name_of(node) for action, node in grid.sent if action in TRAINING
    ]
    samples = [strategy.state.clients[name].train_samples for name in asked]
    assert len(asked) == 6
    assert samples == sorted(samples, reverse=True)


def test_every_client_is_evaluated_at_the_rounds_asked_for_and_at_the_end(tmp_path):
    fewer = {"num_clients": 3, "client_groups": 1}
    run_quickly(tmp_path, algorithm="fedavg", num_rounds=5, evaluate_every=2, **fewer)
    evaluated = [line["round"] for line in lines(tmp_path) if "all" in line]
    assert evaluated == [2, 4, 5]
    assert lines(tmp_path)[-1]["all"]["overall"]["clients"] == 3


def test_no_rounds_still_profile_evaluate_and_save(tmp_path):
    run_quickly(tmp_path, num_rounds=0, observers=KEPT)
    assert [line["round"] for line in lines(tmp_path)] == [0]
    assert lines(tmp_path)[0]["all"]["overall"]["clients"] == 6
    saved = newest_checkpoint(tmp_path / "run")
    assert (saved.server_round, saved.state.num_clusters > 0) == (0, True)


def test_the_metrics_of_a_line_follow_from_its_clients(shared_folder):
    folder, strategy = plain_run(shared_folder)
    found = lines(folder)[-1]["all"]
    values = {name: each["balanced-accuracy"] for name, each in found["by-client"].items()}
    assert found["overall"]["balanced-accuracy"] == pytest.approx(np.mean(list(values.values())))
    for cluster, metrics in found["by-cluster"].items():
        members = [n for n, z in strategy.state.assignments.items() if z == int(cluster)]
        assert metrics["clients"] == len(members)
        assert metrics["balanced-accuracy"] == pytest.approx(
            np.mean([values[name] for name in members])
        )


def test_waves_bound_what_is_under_way(tmp_path):
    _, grid = run_quickly(tmp_path, max_in_flight=2, num_rounds=1, secondary="none")
    assert grid.most_under_way == 2


def test_bytes_are_counted_by_kind_and_direction(tmp_path):
    strategy, _ = run_quickly(tmp_path, **FEDAVG | {"num_rounds": 1})
    moved = lines(tmp_path)[1]["bytes"]
    weights = sum(part.nbytes for part in strategy.state.models[0].values())
    header = 2 * 128  # NumPy's header, for each of two arrays
    assert moved["down"] == {"train": 6 * (weights + header), "evaluate": 6 * (weights + header)}
    assert moved["up"]["train"] > 6 * weights
    assert moved["up"]["evaluate"] < 6 * 1000


def test_a_global_model_is_refused(tmp_path):
    settings = quick_settings(run_dir=str(tmp_path))
    strategy = build_strategy(settings, RunFolder(settings))
    with pytest.raises(ValueError, match="takes no global model"):
        strategy.start(MemoryGrid(settings), ArrayRecord({"x": Array(np.zeros(1))}))
    with pytest.raises(ValueError, match="takes no global model"):
        strategy.start(MemoryGrid(settings), train_config=ConfigRecord({"lr": 1.0}))


# -- faults -------------------------------------------------------------------------------------


def first_of(reply, *keys):
    return next(key for key in keys if key in arrays(reply))


def with_nan(reply):
    key = first_of(reply, "primary.floats", "update", "judged.balanced-accuracy.hits")
    return replace_array(reply, key, np.full(array_of(reply, key).shape, np.nan, np.float32))


def with_infinity(reply):
    key = first_of(reply, "classifier.floats", "encoder.floats")
    return replace_array(reply, key, np.full_like(array_of(reply, key), np.inf))


def with_another_shape(reply):
    key = first_of(reply, "primary.floats", "encoder.floats", "judged.totals")
    return replace_array(reply, key, array_of(reply, key)[:-1])


def without_an_array(reply):
    arrays(reply).pop(next(iter(arrays(reply))))
    return reply


def without_anything(reply):
    reply.content.clear()
    return reply


def saying(key, value):
    def fault(reply):
        reply.content.config_records["info"][key] = value
        return reply

    return fault


def with_huge_values(reply):
    key = first_of(reply, "primary.floats", "encoder.floats")
    return replace_array(reply, key, np.full_like(array_of(reply, key), 3e38))


BROKEN = {
    "finite but huge": with_huge_values,
    "late": lambda reply: None,
    "error": failed,
    "nan": with_nan,
    "infinite": with_infinity,
    "shape": with_another_shape,
    "missing": without_an_array,
    "empty": without_anything,
    "name": saying("client", "client-0"),
    "counts": saying("samples", -5),
    "huge": saying("samples", 10**15),
}


def arrays(reply):
    return reply.content.array_records["arrays"]


@functools.cache
def run_without_client_3(shared_folder):
    """A run whose client 3 never answers that it has trained."""

    def without(partition, action, reply):
        return None if action in TRAINING and partition == 3 else reply

    folder = shared_folder / "absent"
    return run_quickly(folder, tamper=without, **FEDAVG | {"num_rounds": 1})[0]


@pytest.mark.parametrize("kind", sorted(BROKEN))
def test_a_faulty_update_costs_that_client_alone(tmp_path, shared_folder, caplog, kind):
    fault = BROKEN[kind]

    def tamper(partition, action, reply):
        return fault(reply) if action in TRAINING and partition == 3 else reply

    with caplog.at_level(logging.WARNING, logger="flwr"):
        faulty, _ = run_quickly(
            tmp_path, name="faulty", tamper=tamper, **FEDAVG | {"num_rounds": 1}
        )
    assert "client client-3 is left out" in caplog.text
    assert same_models(faulty.state, run_without_client_3(shared_folder).state)
    assert lines(tmp_path, "faulty")[1]["failed"] == ["client-3"]
    assert lines(tmp_path, "faulty")[1]["replied"] == 5


@pytest.mark.parametrize("kind", ["late", "error", "nan", "infinite", "shape", "missing", "name"])
def test_a_faulty_profile_costs_that_client_its_cluster(tmp_path, caplog, kind):
    fault = BROKEN[kind]

    def tamper(partition, action, reply):
        return fault(reply) if action == "train.profile" and partition == 3 else reply

    with caplog.at_level(logging.WARNING, logger="flwr"):
        strategy, _ = run_quickly(tmp_path, tamper=tamper, num_rounds=0)
    assert "profile: client client-3 is left out" in caplog.text
    assert sorted(strategy.state.assignments) == [f"client-{i}" for i in (0, 1, 2, 4, 5)]
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summary["without-cluster"] == ["client-3"]


@pytest.mark.parametrize("kind", ["error", "shape", "missing", "empty", "nan"])
def test_a_faulty_evaluation_costs_that_clients_figures(tmp_path, caplog, kind):
    fault = BROKEN[kind]

    def tamper(partition, action, reply):
        return fault(reply) if action == "evaluate" and partition == 3 else reply

    with caplog.at_level(logging.WARNING, logger="flwr"):
        run_quickly(tmp_path, tamper=tamper, **FEDAVG | {"num_rounds": 1})
    assert "evaluate: client client-3 is left out" in caplog.text
    assert sorted(lines(tmp_path)[-1]["all"]["by-client"]) == [
        f"client-{i}" for i in (0, 1, 2, 4, 5)
    ]


def test_a_reply_from_an_unknown_node_is_dropped(tmp_path, caplog):
    def tamper(partition, action, reply):
        if action in TRAINING and partition == 3:
            reply.metadata.__dict__["_src_node_id"] = 666
        return reply

    with caplog.at_level(logging.WARNING, logger="flwr"):
        run_quickly(tmp_path, tamper=tamper, **FEDAVG | {"num_rounds": 1})
    assert "client-3 is left out: the reply came from another node, on node 666" in caplog.text


def test_a_cluster_without_a_valid_reply_stays_as_it_was(tmp_path, caplog):
    failing: set[int] = set()

    def tamper(partition, action, reply):
        return BROKEN["nan"](reply) if action in TRAINING and partition in failing else reply

    # A first run tells who is in cluster 0; all of those fail in the second.
    first, _ = run_quickly(tmp_path, name="first", num_rounds=0, secondary="none")
    failing |= {int(name[-1]) for name, z in first.state.assignments.items() if z == 0}
    with caplog.at_level(logging.WARNING, logger="flwr"):
        second, _ = run_quickly(
            tmp_path,
            name="second",
            tamper=tamper,
            num_rounds=1,
            participation=1.0,
            secondary="none",
        )
    assert second.state.num_clusters > 1
    for part, weights in first.state.models[0].items():
        assert (second.state.models[0][part].floats == weights.floats).all()
    assert (
        second.state.models[1]["primary"].floats != first.state.models[1]["primary"].floats
    ).any()
    assert "cluster 0 has no valid reply and stays as it was" in caplog.text


def test_a_round_in_which_everybody_fails_changes_nothing(tmp_path):
    def tamper(partition, action, reply):
        first = action in TRAINING and reply.content.config_records["info"]["round"] == 1
        return BROKEN["error"](reply) if first else reply

    two_rounds = FEDAVG | {"num_rounds": 2}
    run_quickly(tmp_path, tamper=tamper, **two_rounds)
    assert lines(tmp_path)[1]["replied"] == 0
    assert lines(tmp_path)[2]["replied"] == 6
    # Round 2 evaluates the model received: the start, as if round 1 had not been.
    run_quickly(tmp_path, name="untouched", **FEDAVG | {"num_rounds": 0})
    received = lines(tmp_path)[2]["participants"]["overall"]
    assert received == lines(tmp_path, "untouched")[0]["all"]["overall"]


def silent_from(first):
    """Nodes stay connected, and answer no training from a round on."""

    def tamper(partition, action, reply):
        late = int(reply.metadata.group_id) >= first
        return None if action in TRAINING and late else reply

    return tamper


def test_a_run_in_which_nobody_ever_replies_fails(tmp_path):
    with pytest.raises(FederationError, match="no client sent a valid reply in any of 2 rounds"):
        run_quickly(tmp_path, tamper=silent_from(1), **FEDAVG | {"num_rounds": 2})


def test_rounds_on_end_without_any_reply_end_the_run_resumable(tmp_path):
    changes = FEDAVG | {"num_rounds": 6, "num_clients": 3, "client_groups": 1}
    changes |= {"observers": KEPT, "checkpoint_every": 1, "keep_checkpoints": 2}
    with pytest.raises(FederationError, match=r"in 3 rounds on end, .* resume = '.*run'"):
        run_quickly(tmp_path, tamper=silent_from(3), **changes)
    # What the last good rounds left is there still, and none of the silent ones counts.
    kept = sorted(path.name for path in (tmp_path / "run" / "checkpoints").glob("round-*"))
    assert kept == ["round-000001", "round-000002"]
    resumed = quick_settings(
        run_dir=str(tmp_path), resume=str(tmp_path / "run"), **changes, run_name="run"
    )
    strategy = open_run(resumed)
    strategy.start(MemoryGrid(resumed))
    assert [line["round"] for line in lines(tmp_path)] == list(range(7))
    whole, _ = run_quickly(tmp_path, name="whole", **changes)
    assert same_models(strategy.state, whole.state)


def test_a_node_that_left_is_not_asked(tmp_path, caplog):
    settings = quick_settings(run_dir=str(tmp_path), run_name="run", **FEDAVG)
    grid = MemoryGrid(settings)

    def leave(partition, action, reply):
        if action in TRAINING:
            grid.connected.discard(104)
        return reply

    grid.tamper = leave
    with caplog.at_level(logging.WARNING, logger="flwr"):
        run_quickly(tmp_path, name="left", grid=grid, **FEDAVG)
    assert "not connected: client-3" in caplog.text
    asked = [node for action, node in grid.sent if action in TRAINING]
    assert asked.count(104) <= 1


def test_one_diverged_client_cannot_overflow_a_model(tmp_path, caplog):
    """Even where the check of lengths is off, an aggregate that is not finite is not taken over."""

    def tamper(partition, action, reply):
        return BROKEN["finite but huge"](reply) if action in TRAINING and partition == 3 else reply

    with caplog.at_level(logging.WARNING, logger="flwr"):
        strategy, _ = run_quickly(tmp_path, tamper=tamper, max_update_ratio=1e12, **FEDAVG)
    assert all(np.isfinite(values).all() for values in floats(strategy.state))
    assert "client client-3 is left out: its update of primary has length" in caplog.text


def test_the_mean_length_of_updates_is_written_by_part(tmp_path):
    moved = {}

    class MeasuringGrid(MemoryGrid):
        def answer(self, message):
            reply = super().answer(message)
            if message.metadata.message_type in TRAINING:
                sent = message.content.array_records["arrays"]
                for key, array in reply.content.array_records["arrays"].items():
                    part = key.partition(".")[0]
                    if key.endswith(".floats"):
                        start = sent["secondary.floats" if part == "transfer" else key].numpy()
                        length = np.linalg.norm(array.numpy().astype(float) - start)
                        moved.setdefault((message.metadata.group_id, part), []).append(length)
            return reply

    grid = MeasuringGrid(quick_settings(num_rounds=2))
    run_quickly(tmp_path, grid=grid, num_rounds=2)
    for line in lines(tmp_path)[1:]:
        number = str(line["round"])
        expected = {part: np.mean(its) for (round_, part), its in moved.items() if round_ == number}
        assert set(expected) == {"primary", "classifier", "transfer"}
        assert line["update-lengths"] == pytest.approx(expected, rel=1e-6)


def test_a_client_that_does_not_train_costs_no_other_its_update(tmp_path):
    """Of two replies one says what was sent: the other is not absurdly long for that."""

    class EchoingGrid(MemoryGrid):
        def answer(self, message):
            reply = super().answer(message)
            if message.metadata.dst_node_id == 101 and message.metadata.message_type in TRAINING:
                sent = message.content.array_records["arrays"]
                trained = reply.content.array_records["arrays"]
                trained.update({key: sent[key] for key in sent if key in trained})
            return reply

    changes = FEDAVG | {"num_clients": 2, "client_groups": 1, "participation": 1.0}
    settings = quick_settings(**changes, run_dir=str(tmp_path), run_name="run")
    run_quickly(tmp_path, grid=EchoingGrid(settings), **changes)
    assert [line["failed"] for line in lines(tmp_path)[1:]] == [[], []]


def test_batch_norm_survives_sharing_between_clusters(tmp_path, monkeypatch):
    (tmp_path / "norm_models_for_test.py").write_text(NORM_MODEL)
    monkeypatch.syspath_prepend(tmp_path)
    strategy, _ = run_quickly(
        tmp_path, model="norm_models_for_test:Norm", participation=1.0, local_epochs=4
    )
    for model in strategy.state.models:
        # Running means and variances alternate: 8 each, twice the layer's width.
        assert model["secondary"].buffers.shape == (16,)
        assert (model["secondary"].buffers[8:] >= 0).all()
        assert model["secondary"].integers.shape == (1,)
    assert len(strategy.evaluator.evaluations) == 6


NORM_MODEL = """
from torch import nn
class Norm(nn.Sequential):
    feature_size = 128
    def __init__(self, sample_shape):
        super().__init__(
            nn.Conv2d(1, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(),
            nn.MaxPool2d(2), nn.Flatten(),
        )
"""


def test_too_few_profiles_are_an_error(tmp_path):
    def tamper(partition, action, reply):
        return BROKEN["nan"](reply) if action == "train.profile" and partition else reply

    with pytest.raises(FederationError, match="1 of 6 clients sent a valid profile"):
        run_quickly(tmp_path, tamper=tamper)


def test_a_client_refuses_a_task_for_another(tmp_path, caplog):
    settings = quick_settings(run_dir=str(tmp_path), run_name="run", **FEDAVG)
    grid = MemoryGrid(settings)
    strategy = build_strategy(settings, RunFolder(settings))
    call = strategy.context.clients.claim

    def swapped(name, node_id, connected):  # the server mistakes two clients for one another
        call({"client-0": "client-1", "client-1": "client-0"}.get(name, name), node_id, connected)

    strategy.context.clients.claim = swapped
    with caplog.at_level(logging.WARNING, logger="flwr"):
        strategy.start(grid)
    assert "the header is for 'client-1', this is 'client-0'" in caplog.text


# -- what is left behind ---------------------------------------------------------------------------


def test_the_run_folder_holds_what_it_should(shared_folder):
    folder, strategy = plain_run(shared_folder)
    folder /= "run"
    settings = json.loads((folder / "settings.json").read_text())
    assert settings == strategy.settings.to_run_config()
    seconds = [json.loads(line) for line in (folder / "seconds.jsonl").read_text().splitlines()]
    assert {"registration", "profile", "similarity", "clustering"} <= set(seconds[0])
    assert {"train", "aggregate", "evaluate"} <= set(seconds[-1])
    with np.load(folder / "proximity.npz", allow_pickle=False) as arrays:
        assert arrays["fused"].shape == (6, 6)
        assert arrays["clients"].tolist() == sorted(strategy.state.assignments)
    clustering = json.loads((folder / "clustering.json").read_text())
    assert clustering["num-clusters"] == strategy.state.num_clusters
    # One test parted them: all apart below its height, together at it.
    assert [row["num-clusters"] for row in clustering["sweep"]] == [3, 1]
    assert not [path for path in folder.iterdir() if path.name.startswith("tmp")]


def test_the_state_survives_the_way_to_disk_and_back(shared_folder):
    folder, strategy = plain_run(shared_folder)
    loaded = newest_checkpoint(folder / "run").state
    assert loaded.server_round == 2
    for name in ("class_names", "sample_shape", "clients", "assignments", "teachers"):
        assert getattr(loaded, name) == getattr(strategy.state, name)
    assert same_models(loaded, strategy.state)


def test_a_run_name_is_used_once(tmp_path):
    settings = quick_settings(run_dir=str(tmp_path), run_name="mine")
    folder, late = RunFolder(settings), RunFolder(settings)
    assert not folder.path.exists()
    folder.open()
    with pytest.raises(FileExistsError, match="run-name = 'mine'"):
        RunFolder(settings)
    with pytest.raises(FileExistsError, match="run-name = 'mine'"):
        late.open()
    unnamed = [RunFolder(quick_settings(run_dir=str(tmp_path))) for _ in range(2)]
    for each in unnamed:
        each.open()
    assert unnamed[0].path != unnamed[1].path


def test_the_closing_table_tells_clusters_and_the_rand_index(tmp_path, capsys):
    strategy, _ = run_quickly(
        tmp_path, label_skew=30.0, num_rounds=0, observers="round-log, closing-table"
    )
    printed = capsys.readouterr().out
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert f"adjusted Rand index against the true groups: {summary['adjusted-rand-index']:.3f}" in (
        printed
    )
    accuracy = summary["overall"]["balanced-accuracy"]
    assert f"{100 * accuracy:.2f} %" in printed
    assert [each["members"] for each in summary["clusters"]] == [
        [client.name for client in strategy.state.members(cluster)]
        for cluster in range(strategy.state.num_clusters)
    ]

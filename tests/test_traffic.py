"""Bytes: what is sent, beside the least that the algorithm must move."""

import json
from collections import Counter

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, RecordDict
from flwr.common.serde import recorddict_to_proto
from memory_grid import TRAINING, MemoryGrid, quick_settings, run_quickly
from test_records import HEADER, weights

from feddag_flwr.algorithms.feddag.messages import DualTrainRequest
from feddag_flwr.algorithms.fedrc.messages import MixtureTrainRequest, ResponsibilitiesRequest
from feddag_flwr.algorithms.ifca.messages import ChoiceTrainRequest
from feddag_flwr.records import DescribeRequest
from feddag_flwr.records.sizes import (
    NUMPY_HEADER,
    content_nbytes,
    statistics_nbytes,
)
from feddag_flwr.traffic import Traffic, overhead

pytestmark = pytest.mark.integration


def lines(folder, name="run"):
    return [json.loads(line) for line in (folder / name / "metrics.jsonl").read_text().splitlines()]


class Watching(MemoryGrid):
    """Keeps what is sent and answered: action, round, node, request, reply."""

    def __init__(self, settings):
        super().__init__(settings)
        self.seen = []

    def answer(self, message):
        reply = super().answer(message)
        kind = message.metadata.message_type.rpartition(".")[2]
        kind = "train" if message.metadata.message_type in TRAINING else kind
        number = int(message.metadata.group_id)
        node = message.metadata.dst_node_id
        self.seen.append((kind, number, node, message.content, reply.content))
        return reply


def watched(tmp_path, **changes):
    settings = quick_settings(run_dir=str(tmp_path), run_name="run", **changes)
    strategy, grid = run_quickly(tmp_path, grid=Watching(settings), **changes)
    return strategy, grid.seen


def arrays(content):
    return dict(content["arrays"])


def values(content, part):
    """Bytes of a part's values, from the arrays themselves."""
    return sum(
        array.numpy().nbytes for key, array in arrays(content).items() if key.startswith(f"{part}.")
    )


def extra(content):
    return sum(
        array.numpy().nbytes
        for key, array in arrays(content).items()
        if not key.endswith((".floats", ".buffers", ".integers"))
    )


FEDDAG = {"participation": 1.0, "num_rounds": 2, "client_groups": 3}
GRAPH = {"teacher_clusters": "graph", "classifier_training": "joint", "top_k": 1}
MODEL = {"primary.floats", "secondary.floats", "classifier.floats"}


@pytest.mark.parametrize("transport", ["float32", "bfloat16"])
def test_feddag_moves_little_more_than_it_must(tmp_path, transport):
    """The minimum, summed up from the algorithm's own description."""
    strategy, seen = watched(tmp_path, transport=transport, evaluate_every=1, **GRAPH, **FEDDAG)
    state, least = strategy.state, {"down": Counter(), "up": Counter()}
    for kind, number, node, request, reply in seen:
        if kind == "profile":
            least["down"][kind] += values(request, "primary") + values(request, "classifier")
            least["up"][kind] += values(reply, "encoder") + extra(reply)
        if kind in ("train", "evaluate"):
            model = ("primary", "secondary", "classifier")
            least["down"][kind] += sum(values(request, part) for part in model)
            least["up"][kind] += extra(reply)
        if kind == "train":
            name = strategy.context.clients.name_of(node)
            least["up"][kind] += values(request, "primary") + values(request, "classifier")
            if state.learners(state.assignments[name]):
                # S' is as large as S; in the first round it is S, for all start alike.
                least["down"][kind] += values(request, "secondary") * (number > 1)
                least["up"][kind] += values(request, "secondary")
    found = Traffic().take()["bytes-least"]
    for line in lines(tmp_path):
        for way, kinds in line["bytes-least"].items():
            found[way] = Counter(found[way]) + Counter(kinds)
        for way, kinds in line["bytes-sent"].items():
            assert all(kinds[kind] > line["bytes"][way].get(kind, 0) for kind in kinds)
    assert found == least
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    sent = sum(
        count for line in lines(tmp_path) for kinds in line["bytes-sent"].values()
        for count in kinds.values()
    )  # fmt: skip
    expected = sent / sum(sum(kinds.values()) for kinds in least.values())
    assert summary["overhead"] == pytest.approx(expected, abs=1e-4)
    assert summary["bytes-sent-per-client"] == round(sent / 6)
    # The digits' small model; on a real one headers and names hardly count.
    assert 1 < expected < {"float32": 1.05, "bfloat16": 1.1}[transport]


def test_an_encoder_is_one_array_and_s_prime_goes_only_to_sources_with_learners(tmp_path):
    strategy, seen = watched(tmp_path, **GRAPH, **FEDDAG)
    state = strategy.state
    assert state.num_clusters == 3
    with_learners = {cluster for cluster in range(3) if state.learners(cluster)}
    for kind, number, node, request, reply in seen:
        if kind != "train":
            continue
        teaches = state.assignments[strategy.context.clients.name_of(node)] in with_learners
        shared = {"transfer.floats"} if teaches else set()
        there = shared if number > 1 else set()  # in the first round S' is S itself
        assert set(arrays(request)) == MODEL | there
        back = {"primary.floats", "classifier.floats", "received.totals"}
        back.add("received.balanced-accuracy.hits")
        assert set(arrays(reply)) == back | shared


def test_with_running_statistics_an_encoder_is_three_arrays(tmp_path):
    _, seen = watched(
        tmp_path, algorithm="fedavg", num_rounds=1, model="hostile_replies:normalised"
    )
    request = next(request for kind, _, _, request, _ in seen if kind == "train")
    assert set(arrays(request)) == {
        "primary.floats", "primary.buffers", "primary.integers", "classifier.floats"
    }  # fmt: skip


@pytest.mark.parametrize("secondary", ["shared", "own"])
def test_s_does_not_travel_twice(tmp_path, secondary):
    """S' of a cluster that learns from itself is its own S; so it is of the S of all."""
    strategy, seen = watched(tmp_path, secondary=secondary, **FEDDAG)
    for kind, _, _, request, reply in seen:
        if kind == "train":
            assert "transfer.floats" not in arrays(request)
            assert "transfer.floats" in arrays(reply)
    assert strategy.state.num_clusters == 3
    assert lines(tmp_path)[1]["overhead"] < 1.05


@pytest.mark.parametrize("size", [0, 1, 120, 127, 128, 16_000, 16_384, 2**21, 3_000_000])
def test_the_size_of_a_message_is_that_of_its_protobuf(size):
    content = RecordDict(
        {
            "info": ConfigRecord({"client": "ward-3", "parts": ["a", "b"], "round": 3}),
            "arrays": ArrayRecord({f"part-{i}": Array(np.zeros(size, np.uint8)) for i in range(3)}),
        }
    )
    exact = recorddict_to_proto(content).ByteSize()
    assert abs(content_nbytes(content) - exact) <= 3 * 4 + 4


def test_a_message_that_protobuf_does_not_take_counts_by_its_arrays():
    content = RecordDict(
        {"info": ConfigRecord({"\ud800": 1}), "arrays": ArrayRecord({"x": Array(np.zeros(100))})}
    )
    assert content_nbytes(content) >= 800


@pytest.mark.parametrize("dtype", [np.float32, np.float16, np.uint16, np.int64])
@pytest.mark.parametrize("shape", [(0,), (7,), (10**6,), (3, 784)])
def test_the_header_of_an_array_is_as_long_as_is_taken_off(dtype, shape):
    array = np.zeros(shape, dtype)
    assert len(Array(array).data) == array.nbytes + NUMPY_HEADER


def test_the_least_of_odd_requests():
    model = {"primary": weights(1, 2), "secondary": weights(3, 4), "classifier": weights(5)}
    same = model | {"transfer": weights(3, 4)}
    other = model | {"transfer": weights(3, 5)}
    both = ("primary", "secondary")
    sizes = [
        (same, both, 20, 20),  # S' is S
        (other, both, 28, 20),
        (other, ("primary",), 20, 12),  # not asked to train S'
        (other, ("secondary",), 28, 8),
        (model, both, 20, 20),
    ]
    for parts, phases, down, up in sizes:
        request = DualTrainRequest(HEADER, parts, phases)
        assert (request.least_down(), request.least_up()) == (down, up)
    heads = DualTrainRequest(HEADER, model, ("secondary",), separate_heads=True)
    assert heads.least_up() == 12  # S' and the classifier
    candidates = tuple({"primary": weights(1, 2), "classifier": weights(k)} for k in range(3))
    choose = ChoiceTrainRequest(HEADER, candidates)
    assert (choose.least_down(), choose.least_up()) == (36, 12)
    prior = np.zeros((3, 3))
    mixture = MixtureTrainRequest(HEADER, candidates, prior)
    assert (mixture.least_down(), mixture.least_up()) == (36 + 72, 36)
    asked = ResponsibilitiesRequest(HEADER, candidates, prior)
    assert (asked.least_down(), asked.least_up()) == (36 + 72, 0)
    assert DescribeRequest(1).least_up() == DescribeRequest(1).least_down() == 0
    assert statistics_nbytes(mixture.encode()) == 72


def test_nothing_needed_is_no_overhead():
    assert overhead({"bytes": 0, "bytes-sent": 90, "bytes-least": 0}) is None
    assert overhead({"bytes": 110, "bytes-sent": 125, "bytes-least": 100}) == 1.25

import json
from types import SimpleNamespace

import numpy as np
import pytest
from algorithm_bench import Bench
from memory_grid import TRAINING, array_of, quick_settings, replace_array, run_quickly

from feddag_flwr.aggregation import Weights
from feddag_flwr.algorithms.ifca.messages import ChoiceReply, ChoiceTrainRequest
from feddag_flwr.algorithms.ifca.server import IFCA
from feddag_flwr.clustering.rand_index import adjusted_rand_index
from feddag_flwr.clustering.settings import MOST_CANDIDATES
from feddag_flwr.records import RecordError, RequestHeader
from feddag_flwr.state import Client, ServerState

pytestmark = pytest.mark.integration

QUICK_IFCA = {"algorithm": "ifca", "num_clusters": 2, "participation": 1.0}


def weights(*floats):
    return Weights(np.array(floats, np.float32))


def reply(samples, value, choice):
    parts = {"primary": weights(value), "classifier": weights(-value)}
    return ChoiceReply(samples, parts, {}, choice=choice)


@pytest.fixture
def ifca():
    """Five clients that count to cluster 0; three models 0, 1, 2."""
    strategy = Bench(IFCA, quick_settings())
    names = list("abcde")
    strategy.state = ServerState(
        ("x", "y"), (1, 8, 8), ((0.0, 1.0),), {name: Client(name, 1, 1) for name in names}
    )
    models = [{"primary": weights(z), "classifier": weights(-z)} for z in range(3)]
    strategy.state.set_clusters(names, [0] * 5, models)
    return strategy


def test_a_round_by_hand(ifca):
    # a and c choose 2: (1 * 4 + 3 * 8) / 4 = 7; b chooses 0: 5; nobody chooses 1.
    ifca.aggregate(1, {"a": reply(1, 4, 2), "b": reply(2, 5, 0), "c": reply(3, 8, 2)})
    assert [model["primary"].floats.item() for model in ifca.state.models] == [5, 1, 7]
    assert [model["classifier"].floats.item() for model in ifca.state.models] == [-5, -1, -7]
    assert ifca.state.assignments == {"a": 2, "b": 0, "c": 2, "d": 0, "e": 0}


def test_before_an_evaluation_clients_take_the_lowest_loss(ifca):
    losses = {"a": [2.0, 1.0, 3.0], "b": [1.0, 2.0, 0.5]}
    ifca.state.assignments["c"] = 1
    ifca.algorithm.candidate_losses = lambda server_round, names: {
        name: SimpleNamespace(losses=np.array(losses[name])) for name in names if name in losses
    }
    ifca.prepare_evaluation(1, ["a", "b", "c"])
    assert ifca.state.assignments == {"a": 1, "b": 2, "c": 1, "d": 0, "e": 0}


def test_the_starts_differ_and_the_first_is_everybodys(tmp_path):
    strategy, _ = run_quickly(tmp_path, name="ifca", num_rounds=0, **QUICK_IFCA)
    fedavg, _ = run_quickly(tmp_path, name="fedavg", num_rounds=0, algorithm="fedavg")
    for part in ("primary", "classifier"):
        one, two = (model[part].floats for model in strategy.state.models)
        assert (one == fedavg.state.models[0][part].floats).all()
        assert abs(np.corrcoef(one, two)[0, 1]) < 0.2


@pytest.mark.parametrize("seed", [1, 2])
def test_rotated_groups_are_found(tmp_path, seed):
    strategy, _ = run_quickly(
        tmp_path, seed=seed, num_clients=8, client_groups=1, label_skew=100.0, rotations=2,
        num_rounds=4, evaluate_every=4, local_epochs=2, learning_rate=0.05, batch_size=16,
        **QUICK_IFCA,
    )  # fmt: skip
    assert adjusted_rand_index(strategy.state.assignments, strategy.context.true_groups) == 1.0


def test_a_faulty_client_costs_itself_alone(tmp_path, caplog):
    def tamper(partition, action, message):
        if partition == 0 and action in TRAINING:
            nan = np.full_like(array_of(message, "primary.floats"), np.nan)
            return replace_array(message, "primary.floats", nan)
        if partition == 0 and action == "query.candidate_losses":
            return None
        return message

    strategy, _ = run_quickly(tmp_path, tamper=tamper, round_timeout=1.0, **QUICK_IFCA)
    assert strategy.state.assignments["client-0"] == 0
    assert "train: client client-0 is left out" in caplog.text
    assert all(part.is_finite for model in strategy.state.models for part in model.values())
    assert len(strategy.evaluator.evaluations) == 6


def test_a_choice_beyond_the_candidates_is_left_out(tmp_path, caplog):
    def tamper(partition, action, message):
        if partition == 1 and action in TRAINING:
            message.content.config_records["info"]["choice"] = 2
        return message

    run_quickly(tmp_path, tamper=tamper, **QUICK_IFCA)
    assert "choice = 2 is none of 2 candidates" in caplog.text


def test_bytes_by_hand(tmp_path):
    strategy, _ = run_quickly(tmp_path, num_rounds=1, **QUICK_IFCA | {"num_clusters": 3})
    line = json.loads((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()[1])
    model = sum(part.nbytes for part in strategy.state.models[0].values()) + 2 * 128
    down, up = line["bytes"]["down"], line["bytes"]["up"]
    assert down == {
        "train": 6 * 3 * model,
        "candidate_losses": 6 * 3 * model,
        "evaluate": 6 * model,
    }
    # Upwards: one model a participant with its counts; three losses and lowest.
    assert 6 * model <= up["train"] < 6 * (model + 1000)
    assert up["candidate_losses"] == 6 * 2 * (128 + 3 * 8)


def test_a_message_carries_as_many_models_as_num_clusters_may_be_and_no_more():
    def sent(count):
        header = RequestHeader("client-1", 1, ("x", "y"), (1, 8, 8), ((0.0, 1.0),))
        models = tuple({"primary": weights(z), "classifier": weights(-z)} for z in range(count))
        return ChoiceTrainRequest(header, models).encode()

    arrived = ChoiceTrainRequest.decode(sent(MOST_CANDIDATES)).candidates
    assert [model["primary"].floats.item() for model in arrived] == list(range(500))
    with pytest.raises(RecordError, match="parts must be a list of 1 to 1000 names, got 1002"):
        ChoiceTrainRequest.decode(sent(MOST_CANDIDATES + 1))

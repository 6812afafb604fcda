"""An objective, an optimiser, a trainer and an algorithm's client half, all from this one file."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pytest
import torch
from flwr.app import Array, Context, Message, RecordDict
from memory_grid import QUICK, MemoryGrid, quick_settings, run_quickly
from torch.nn import functional

from client_app.app import app
from feddag_flwr.client.registry import ACTIONS as BUILT_IN
from feddag_flwr.client.registry import CUSTOM, load_action
from feddag_flwr.federation.client_registry import ClientRegistry
from feddag_flwr.federation.exchange import Exchange, Letter, Wait
from feddag_flwr.local_training import LocalTrainingConfig
from feddag_flwr.models.flat import get_parts
from feddag_flwr.models.registry import build_model
from feddag_flwr.records import EvaluateRequest, Limits, RecordError, RequestHeader, TrainRequest
from feddag_flwr.records.arrays import number_of
from feddag_flwr.registry import RegistryError
from feddag_flwr.settings import Settings, SettingsError

SHAPE = (1, 8, 8)
HEADER = RequestHeader("client-2", 1, tuple(map(str, range(10))), SHAPE, ((0.3, 0.4),))
MODEL = get_parts(build_model("small", SHAPE, 10, dual=False, seed=1))

# -- what a user would write -----------------------------------------------------------------------


class SquaredError:
    """Squared distance of the softmax from the one-hot label."""

    def sample_losses(self, logits, labels):
        wanted = functional.one_hot(labels, logits.shape[1]).to(logits.dtype)
        return (logits.softmax(dim=1) - wanted).square().sum(dim=1)

    def loss(self, logits, labels, weights=None):
        losses = self.sample_losses(logits, labels)
        return (losses if weights is None else losses * weights).mean()


SQUARED_ERROR = SquaredError()


class SignDescent:
    """Moves every parameter by the learning rate, against the sign of its gradient."""

    def __init__(self, parameters, config):
        self.parameters, self.rate = list(parameters), config.learning_rate

    def zero_grad(self):
        for parameter in self.parameters:
            parameter.grad = None

    @torch.no_grad()
    def step(self):
        for parameter in self.parameters:
            parameter -= self.rate * parameter.grad.sign()


class Together:
    """Trains what waits at once, last job first, and remembers how much that was."""

    batches = True

    def __init__(self):
        self.sizes = []

    def train(self, jobs):
        self.sizes.append(len(jobs))
        results = [job.run() for job in reversed(jobs)]
        return results[::-1]


TOGETHER = Together()


def count_pixels(content, context):
    header = RequestHeader.decode(content)
    reply = RecordDict({"info": header.encode()["info"]})
    reply["arrays"] = EvaluateRequest(header, MODEL).encode()["arrays"]
    reply.array_records["arrays"]["number.pixels"] = Array(np.array([64.0]))
    return reply


ACTIONS = {"query.pixels": count_pixels}


@dataclass(frozen=True)
class PixelsRequest:
    """Asks how many pixels an image has."""

    action: ClassVar[str] = "query.pixels"
    counted_as: ClassVar[str] = "pixels"

    header: RequestHeader

    def encode(self):
        return self.header.encode()

    def read_reply(self, content, limits):
        return number_of(content, "pixels", (1,))

    def least_down(self):
        return 0

    def least_up(self):
        return 0


# -- objective and optimiser -----------------------------------------------------------------------


def trained(config, **settings):
    """Train the model on client 2 by messages; return its parameters."""
    context = Context(
        1,
        7,
        {"partition-id": 2, "num-partitions": 6},
        RecordDict(),
        quick_settings(**settings).to_run_config(),
    )
    request = TrainRequest(HEADER, MODEL, config)
    return request.read_reply(
        app(Message(request.encode(), 7, "train"), context).content, Limits(1000)
    )


ONE_BATCH = LocalTrainingConfig(epochs=1, batch_size=1000, learning_rate=0.25)


def test_an_objective_of_ones_own_is_minimised():
    name = "test_seams_of_training:SQUARED_ERROR"
    config = LocalTrainingConfig(1, 1000, name, learning_rate=0.25, report_losses=True)
    reply = trained(config, objective=name)
    # The first loss is that of the model received: under ten classes nearly alike about 0.9.
    assert 0.85 < reply.losses[0] < 0.95
    assert (
        trained(
            LocalTrainingConfig(1, 1000, learning_rate=0.25, report_losses=True), objective=name
        ).losses[0]
        > 2.2
    )  # cross-entropy, about log 10


def test_an_optimiser_of_ones_own_takes_the_steps():
    name = "test_seams_of_training:SignDescent"
    config = LocalTrainingConfig(1, 1000, optimiser=name, learning_rate=0.25)
    moved = trained(config, optimiser=name).update_of("classifier")
    assert set(np.unique(moved.round(4)).tolist()) <= {-0.25, 0.0, 0.25}
    assert np.abs(moved).max() > 0.2


@pytest.mark.parametrize(("key", "place"), [("objective", 2), ("optimiser", 3)])
def test_a_message_cannot_make_a_client_import_what_its_run_does_not_name(key, place):
    values = [1, 1000, "cross-entropy", "sgd"]
    values[place] = "os:system"
    with pytest.raises(RegistryError, match=f"{key} = 'os:system' is asked for: must be"):
        trained(LocalTrainingConfig(*values))


@pytest.mark.parametrize("setting", ["objective", "optimiser", "trainer"])
def test_an_unknown_name_is_refused_with_what_is_allowed(setting):
    with pytest.raises(
        SettingsError, match=f"setting {setting} = 'best': must be .* or package.module:attribute"
    ):
        Settings.from_run_config({setting: "best"})


def test_whole_runs_with_an_objective_and_an_optimiser_of_ones_own(tmp_path):
    runs = {
        name: run_quickly(tmp_path, name=name, num_rounds=1, algorithm="fedavg", **settings)[0]
        for name, settings in {
            "plain": {},
            "objective": {"objective": "test_seams_of_training:SQUARED_ERROR"},
            "optimiser": {"optimiser": "test_seams_of_training:SignDescent"},
        }.items()
    }
    found = {n: s.state.models[0]["primary"].floats for n, s in runs.items()}
    assert (found["plain"] != found["objective"]).any()
    assert (found["plain"] != found["optimiser"]).any()
    assert len(runs["objective"].evaluator.evaluations) == QUICK["num-clients"]


# -- trainer ---------------------------------------------------------------------------------------


def fickle(input_shape):
    """Build an encoder that draws from PyTorch's global generator."""
    encoder = torch.nn.Sequential(
        torch.nn.Flatten(), torch.nn.Linear(64, 8), torch.nn.Dropout(0.5), torch.nn.ReLU()
    )
    encoder.feature_size = 8
    return encoder


class Batching(MemoryGrid):
    """Keeps how many messages were answered together; nobody tampers here."""

    def __init__(self, settings):
        super().__init__(settings)
        self.together = []

    def answer_together(self, messages):
        self.together.append([message.metadata.message_type for message in messages])
        return super().answer_together(messages)


@pytest.mark.parametrize("algorithm", ["feddag", "fedrc"])
def test_a_trainer_gets_the_jobs_of_a_wave_at_once_and_results_are_the_same(tmp_path, algorithm):
    changes = {
        "algorithm": algorithm, "participation": 1.0, "model": "test_seams_of_training:fickle",
        "num_clusters": 2, "personalisation_epochs": 1,
    }  # fmt: skip
    alone, _ = run_quickly(tmp_path, name="alone", **changes)
    TOGETHER.sizes.clear()
    changes["trainer"] = "test_seams_of_training:TOGETHER"
    settings = quick_settings(run_dir=str(tmp_path), run_name="grid", **changes)
    grid = Batching(settings)
    strategy, _ = run_quickly(tmp_path, name="together", grid=grid, **changes)
    assert max(len(wave) for wave in grid.together) == 6
    # Both phases, or both models, of six clients, and their fine-tuning: nothing is trained alone.
    assert TOGETHER.sizes.count(6) >= 5
    assert set(TOGETHER.sizes) == {6}
    for one, two in zip(alone.state.models, strategy.state.models, strict=True):
        for part, weights in one.items():
            assert weights.equals(two[part]), part
    assert {n: e.states["loss"] for n, e in alone.evaluator.evaluations.items()} == {
        n: e.states["loss"] for n, e in strategy.evaluator.evaluations.items()
    }


def test_in_a_batch_a_client_that_fails_costs_itself_alone():
    settings = quick_settings(trainer="test_seams_of_training:TOGETHER")
    grid = MemoryGrid(settings)
    TOGETHER.sizes.clear()
    headers = {
        node: RequestHeader(f"client-{index}", 1, HEADER.class_names, SHAPE, HEADER.sample_scale)
        for index, node in enumerate((101, 102, 103))
    }
    headers[102] = headers[101]  # meant for another client
    ids = grid.push_messages(
        Message(TrainRequest(header, MODEL, ONE_BATCH).encode(), node, "train")
        for node, header in headers.items()
    )
    replies = super(MemoryGrid, grid).pull_messages(ids)
    assert [reply.has_error() for reply in replies] == [False, True, False]
    assert "is for 'client-0', this is 'client-1'" in replies[1].error.reason
    assert TOGETHER.sizes == [2]


# -- an algorithm's client half --------------------------------------------------------------------

OWN = "test_seams_of_training:Anything"


def test_an_algorithm_of_ones_own_brings_its_actions():
    settings = quick_settings(algorithm=OWN)
    grid = MemoryGrid(settings)
    exchange = Exchange(grid, 5, ClientRegistry(), Limits(9))
    ((_, pixels),) = exchange.stream([Letter(103, PixelsRequest(HEADER))], Wait(5.0))
    assert pixels.tolist() == [64.0]
    assert grid.sent == [("query.custom", 103)]
    assert list(exchange.traffic.take()["bytes"]["up"]) == ["pixels"]


@pytest.mark.parametrize(
    ("algorithm", "action", "error", "message"),
    [
        (OWN, "query.voxels", RecordError, "'query.voxels': .* offers query.pixels"),
        (OWN, "os.system", RecordError, "offers query.pixels"),
        ("feddag", "query.pixels", RegistryError, "'feddag' brings no actions of its own"),
        ("nowhere:Class", "query.pixels", RegistryError, "'nowhere:Class': No module"),
        ("json:Class", "query.pixels", RegistryError, "'json:Class': .*ACTIONS"),
    ],
)
def test_only_the_run_s_own_algorithm_answers(algorithm, action, error, message):
    content = HEADER.encode()
    content.config_records["info"]["custom-action"] = action
    with pytest.raises(error, match=message):
        load_action("query.custom", content, algorithm)


def test_an_action_of_another_category_is_refused():
    content = HEADER.encode()
    content.config_records["info"]["custom-action"] = "query.pixels"
    with pytest.raises(RecordError, match=r"offers query\.pixels"):
        load_action("train.custom", content, OWN)


def test_every_built_in_action_is_listed_where_it_is():
    from importlib import import_module

    for module in set(BUILT_IN.values()):
        listed = {action for action, place in BUILT_IN.items() if place == module}
        assert set(import_module(module).ACTIONS) == listed
    registered = {name.removesuffix(".default") for name in app._registered_funcs}
    assert registered == {*BUILT_IN, *CUSTOM}

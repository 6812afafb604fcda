"""One client answers with anything at all, in every kind of exchange.

Never does a round fail or a bad value stay, and the log names the sender. A reply that is refused
leaves the server just as silence would have; one that happens to be in order is used.
"""

import copy
import hashlib
import json
import logging
import os
from collections.abc import Callable
from dataclasses import dataclass, field

import hypothesis
import numpy as np
import pytest
from flwr.app import Message
from flwr.common.serde import recorddict_from_proto, recorddict_to_proto
from flwr.serverapp.strategy import Result
from hostile_replies import changed, changes
from judgements import hits, loss_sum
from memory_grid import MemoryGrid, array_of, quick_settings, replace_array
from slept_clock import Clock

from feddag_flwr.engine.resumption import evaluations_to_json
from feddag_flwr.engine.runs import build_strategy
from feddag_flwr.federation import exchange
from feddag_flwr.federation.exchange import Exchange
from feddag_flwr.run_folder import RunFolder

pytestmark = pytest.mark.integration

# Examples of each exchange; FEDDAG_HOSTILE_EXAMPLES=1000 looks longer.
EXAMPLES = int(os.environ.get("FEDDAG_HOSTILE_EXAMPLES", "10"))

HOSTILE, NAME = 102, "client-1"
LIMIT = 1000


class HostileGrid(MemoryGrid):
    """The real ClientApp answers, each question once; one node's answers of a kind are changed."""

    def __init__(self, settings):
        super().__init__(settings)
        self._known = {}
        self.kind, self.change = None, None

    def answer(self, message):
        node, kind = message.metadata.dst_node_id, message.metadata.message_type
        if node not in self.connected:
            return None
        content = recorddict_to_proto(message.content).SerializeToString(deterministic=True)
        key = node, kind, hashlib.sha256(content).digest()
        if key not in self._known:
            honest = super().answer(message)
            if honest.has_error():
                return honest
            self._known[key] = recorddict_to_proto(honest.content)
        reply = Message(recorddict_from_proto(self._known[key]), reply_to=message)
        if node == HOSTILE and kind.rpartition(".")[2] == self.kind:
            return self.change(reply)
        return reply


class Lines(logging.Handler):
    """The warnings of the server, while the block runs."""

    def __init__(self):
        super().__init__(logging.WARNING)
        self.text = ""

    def emit(self, record):
        line = record.getMessage()
        assert len(line) < 2000
        line.encode()  # no half characters
        self.text += line + "\n"

    def __enter__(self):
        logging.getLogger("flwr").addHandler(self)
        return self

    def __exit__(self, *error):
        logging.getLogger("flwr").removeHandler(self)


@dataclass
class Scene:
    """An exchange: the server as it stands before it, and what it does then.

    `at` is how far the run has come: not begun, met (no clusters yet), or begun; at "joining" all
    but the hostile client have begun, and it comes in with the next round. Where `others` is False,
    a reply that is used may change where others belong.
    """

    algorithm: str
    kind: str
    step: Callable
    at: str = "begun"
    others: bool = True
    settings: dict = field(default_factory=dict)

    def __str__(self):
        return "-".join([self.algorithm, self.kind, self.at, *map(str, self.settings.values())])

    def prepare(self, folder):
        settings = quick_settings(
            algorithm=self.algorithm, num_clients=4, min_clients=3, client_groups=2,
            participation=1.0, warmup_epochs=1, max_update_ratio=10.0, max_client_samples=LIMIT,
            run_dir=str(folder), run_name="run", num_clusters=2,
            **{"model": "hostile_replies:tiny"} | self.settings,
        )  # fmt: skip
        self.grid = HostileGrid(settings)
        if self.at == "joining":
            self.grid.connected.discard(HOSTILE)
        strategy = build_strategy(settings, RunFolder(settings))
        context = strategy.context
        context.exchange = Exchange(self.grid, 50, context.clients, context.limits())
        if self.at == "met":
            strategy.algorithm.begin = lambda: None
        if self.at != "not begun":
            strategy._open()
        strategy.algorithm.__dict__.pop("begin", None)
        self.grid.connected.add(HOSTILE)
        exchange = strategy.context.exchange
        exchange.grid = exchange.inbox = None  # they are not copied with the rest
        self._before = strategy
        self.silent, _, _ = self.play(lambda reply: None)
        honest, _, _ = self.play(lambda reply: reply)
        assert honest != self.silent  # the exchange matters, so silence can be told from use

    def play(self, change):
        """Do the step with the hostile client's answers changed.

        Returns what the server knows then, as text; the strategy; and its warnings.
        """
        strategy = copy.deepcopy(self._before)
        strategy.context.exchange.connect(self.grid)
        strategy.folder.open = lambda: None
        self.grid.kind, self.grid.change = self.kind, change
        with Lines() as lines:
            found = self.step(strategy)
        return known(strategy, found), strategy, lines.text


def known(strategy, found):
    """All that the server keeps, as text that can be compared."""
    state, saved = strategy.state, strategy.algorithm.state_dict()
    models = [
        (part, digest(weights.floats, weights.buffers, weights.integers))
        for model in [*state.models, *saved.models.values()]
        for part, weights in model.items()
    ]
    arrays = [
        (group, key, digest(array))
        for group, its in sorted(saved.arrays.items())
        for key, array in its.items()
    ]
    return json.dumps(
        {
            "names": [state.class_names, state.sample_shape, state.sample_scale],
            "clients": [repr(client) for client in state.clients.values()],
            "assignments": state.assignments,
            "teachers": state.teachers,
            "models": models,
            "algorithm": [arrays, repr(saved.notes)],
            "evaluations": evaluations_to_json(strategy.evaluator.evaluations),
            "replied": strategy.report.line.get("replied"),
            "drifted": sorted(strategy.context.drifted),
            "true-groups": strategy.context.true_groups,
            "placed": strategy.joins.placed,
            "judged": strategy.report.line.get("judged"),
            "reputation": strategy.training.judging.reputation.state_dict(),
            "found": repr(found),
        },
        indent=0,
    )


def digest(*arrays):
    return hashlib.sha256(
        b"".join(np.ascontiguousarray(each).tobytes() for each in arrays)
    ).hexdigest()


def check(strategy):
    """No value is stored that could spoil a later round, a checkpoint, or a line of a file."""
    state = strategy.state
    sizes = [{part: weights.sizes for part, weights in model.items()} for model in state.models]
    assert all(each == sizes[0] for each in sizes)
    # Finite, and no longer than ten honest updates could make them.
    for weights in (weights for model in state.models for weights in model.values()):
        assert np.abs(weights.floats).max() < 10
        assert (weights.buffers[8:] >= 0).all()  # running variances
        assert np.abs(weights.buffers).max(initial=0) < 1e3
    assert set(state.assignments) <= set(state.clients)
    assert set(state.assignments.values()) <= set(range(state.num_clusters))
    assert np.isfinite(state.sample_scale).all()
    for client in state.clients.values():
        assert client.name.isprintable()
        assert 1 <= client.train_samples <= LIMIT
        assert 0 <= client.test_samples <= LIMIT
    assert all(name.isprintable() for name in state.class_names)
    for each in strategy.evaluator.evaluations.values():
        assert np.isfinite(loss_sum(each))
        counted = np.array(hits(each))
        assert (counted >= 0).all()
        assert (counted <= each.totals).all()
        assert 0 <= each.states["accuracy"]["hits"] <= each.samples
    saved = strategy.algorithm.state_dict()
    for its in saved.arrays.values():
        assert all(np.isfinite(array).all() for array in its.values())
    for model in saved.models.values():
        assert all(weights.is_finite for weights in model.values())
    json.dumps([saved.notes, strategy.report.line], allow_nan=False).encode()


def others(text):
    """Clusters of the clients that are no liars; the hostile one may call itself anything."""
    found = json.loads(text)["assignments"]
    return {name: found.get(name) for name in ("client-0", "client-2", "client-3")}


def train(strategy):
    strategy.training.run(1)


def evaluate(strategy):
    strategy._evaluate(1, Result(), last=True)


def candidate_losses(strategy):
    names = strategy.context.connected(sorted(strategy.state.assignments))
    found = strategy.algorithm.candidate_losses(1, names)
    return {name: (each.losses.tolist(), each.lowest.tolist()) for name, each in found.items()}


def cluster(strategy):
    strategy.algorithm.begin()


def before_round(strategy):
    strategy.algorithm.plan_round(1)


def shares(strategy):
    return strategy.algorithm.place_held_out(
        1, strategy.context.connected(sorted(strategy.state.assignments))
    )


PRIVATE = {
    "profile_epsilon": 50.0, "standardise": False, "initialisation": "random",
    "secondary_start": "random", "drift_threshold": 0.0,
}  # fmt: skip

SCENES = [
    Scene("fedavg", "describe", lambda strategy: strategy._open(), at="not begun"),
    Scene("feddag", "describe", train, at="joining"),
    Scene("feddag", "profile", train, at="joining"),
    Scene("ifca", "describe", train, at="joining"),
    Scene("feddag", "profile", cluster, at="met", others=False),
    Scene("feddag", "dual", train),
    Scene("feddag", "dual", train, settings={"transport": "float16"}),
    Scene("fedavg", "train", train, settings={"model": "hostile_replies:normalised"}),
    Scene("feddag", "dual", evaluate, settings={"personalisation_epochs": 1}),
    Scene("feddag", "validation_losses", train, settings={"judges": 2}),
    Scene("feddag", "dual", train, settings={"judges": 1, "aggregator": "median"}),
    Scene("feddag", "private_profile", cluster, at="met", others=False, settings=PRIVATE),
    Scene("ifca", "choice", train),
    Scene("ifca", "candidate_losses", candidate_losses),
    Scene("fedrc", "mixture", train),
    Scene("fedrc", "responsibilities", shares),
    Scene("fedgwc", "train", train),
    Scene("pacfl", "vectors", cluster, at="met", others=False),
    Scene(
        "cfl-gp", "gradient", before_round, others=False, settings={"cfl_gp_profile": "gradient"}
    ),
]


@pytest.fixture(scope="module", params=SCENES, ids=str)
def scene(request, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(exchange, "time", Clock())
        request.param.prepare(tmp_path_factory.mktemp("hostile"))
    return request.param


@hypothesis.settings(
    max_examples=EXAMPLES,
    derandomize="FEDDAG_HOSTILE_EXAMPLES" not in os.environ,
    suppress_health_check=list(hypothesis.HealthCheck),
    deadline=None,
)
@hypothesis.given(by=changes)
def test_a_hostile_reply_is_refused_or_harmless(scene, by):
    judge(scene, lambda reply: changed(reply, by))


ABSURD = {
    "vast": lambda values: np.full_like(values, 3e38),
    "a million times": lambda values: values * np.asarray(1e6, values.dtype),
    "negative": lambda values: np.full_like(values, -50),
    "zero": np.zeros_like,
}


@pytest.mark.parametrize("absurd", ABSURD)
def test_no_array_of_a_reply_can_be_absurd(scene, absurd):
    """Each array by itself, of the right type and shape."""
    keys = set()

    def note(reply):
        keys.update(reply.content.get("arrays", {}))
        return reply

    scene.play(note)
    for key in sorted(keys):

        def change(reply, key=key):
            with np.errstate(all="ignore"):
                return replace_array(reply, key, ABSURD[absurd](array_of(reply, key)))

        judge(scene, change)


def judge(scene, change):
    """Let the hostile client answer so: silence and a line, or use.

    Who says that it will join in a later round is silent, and in order; who has no labels is told
    of that in the first round.
    """
    later: list[object] = []

    def noting(reply):
        if (reply := change(reply)) is not None and reply.has_content():
            info = dict(reply.content.get("info") or {})
            later.append(info.get("joins-in"))
            later.append(scene.at == "not begun" and info.get("class-names") == [])
        return reply

    found, strategy, lines = scene.play(noting)
    check(strategy)
    who = (f"client {NAME}", f"node {HOSTILE}", f"client {NAME!r}")
    if found == scene.silent and not any(
        each is True or (type(each) is int and each > 0) for each in later
    ):
        assert any(each in lines for each in who), lines
    elif found != scene.silent:
        assert not any(f"{each} is left out" in lines for each in who), lines
        if scene.others:
            assert others(found) == others(scene.silent)

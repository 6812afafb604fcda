"""Postprocessors that are added from one file: clipping, noise, and state on the server."""

import logging
from dataclasses import replace

import numpy as np
import pytest
from memory_grid import MemoryGrid, quick_settings, run_quickly

from feddag_flwr.aggregation import Weights
from feddag_flwr.engine.runs import open_run
from feddag_flwr.postprocessors import ClientContext, Postprocessor
from feddag_flwr.postprocessors.chain import Postprocessors
from feddag_flwr.records import TrainReply
from feddag_flwr.registry import RegistryError
from feddag_flwr.seeds import generator
from feddag_flwr.settings import SettingsError

pytestmark = pytest.mark.integration

OWN = f"{__name__}:ClipWithNoise"
LOG = f"{__name__}:Logged"
DROPS = f"{__name__}:DropsClient1"
BOUND, NOISE = 0.01, 0.001
# Weights are near 1, and float32 rounds each of some thousand of them as the update is added.
ROUNDING = 1e-5
# Algorithms with an action of their own for training.
TRAINED_APART = ["feddag", "fedavg", "per-fedavg", "ifca", "fedrc"]

captured: list[tuple[int, dict[str, TrainReply]]] = []
calls: list[str] = []


class Rated(Postprocessor):
    """Cannot be made without an argument."""

    def __init__(self, rate):
        self.rate = rate


class ClipWithNoise(Postprocessor):
    """Clips each part's update to length BOUND, adds noise of length NOISE, counts rounds."""

    def __init__(self):
        self.rounds = 0

    def on_client(self, update, received, context):
        rng = context.rng("noise")
        return {
            part: replace(
                weights,
                floats=received[part].floats + self._moved(weights, received[part], rng),
            )
            for part, weights in update.items()
        }

    def _moved(self, weights, start, rng):
        moved = weights.floats - start.floats
        noise = rng.normal(size=moved.shape).astype(np.float32)
        scale = min(1.0, BOUND / max(float(np.linalg.norm(moved)), 1e-30))
        return moved * np.float32(scale) + noise * np.float32(NOISE / np.linalg.norm(noise))

    def on_server(self, replies, server_round):
        self.rounds += 1
        captured.append((server_round, dict(replies)))
        return replies

    def state_dict(self):
        return {"rounds": self.rounds}

    def load_state_dict(self, state):
        self.rounds = state["rounds"]


class Logged(Postprocessor):
    def on_client(self, update, received, context):
        calls.append("log")
        return update

    def on_server(self, replies, server_round):
        captured.append((server_round, dict(replies)))
        return replies


class DropsClient1(Postprocessor):
    def on_server(self, replies, server_round):
        return {name: reply for name, reply in replies.items() if name != "client-1"}


class First(Postprocessor):
    name = "first"

    def on_client(self, update, received, context):
        calls.append(self.name)
        return {
            part: replace(each, floats=each.floats * self.factor + self.term)
            for part, each in update.items()
        }

    factor, term = np.float32(2), np.float32(0)

    def on_server(self, replies, server_round):
        calls.append(self.name)
        return dict(reversed(replies.items()))


class Second(First):
    name, factor, term = "second", np.float32(1), np.float32(5)


class LosesAPart(Postprocessor):
    def on_client(self, update, received, context):
        return {part: each for part, each in update.items() if part != "classifier"}


class InventsAClient(Postprocessor):
    def on_server(self, replies, server_round):
        return {"nobody": next(iter(replies.values()))}


@pytest.fixture(autouse=True)
def _forget():
    captured.clear()
    calls.clear()


def quick_run(tmp_path, name="run", **changes):
    changes = {"num_clusters": 2, "participation": 1.0} | changes
    strategy, _ = run_quickly(tmp_path, name=name, **changes)
    return strategy


def lengths():
    """Length of every update that the server saw, by round, client and part."""
    return {
        (server_round, client, part): float(
            np.linalg.norm(
                weights.floats.astype(np.float64) - reply.starts[part].floats.astype(np.float64)
            )
        )
        for server_round, replies in captured
        for client, reply in replies.items()
        for part, weights in reply.parts.items()
    }


def floats_of(strategy):
    return [
        (part, weights.floats.tobytes())
        for model in strategy.state.models
        for part, weights in sorted(model.items())
    ]


def context_of(**changes):
    return replace(ClientContext(quick_settings(), 3, "client-2"), **changes)


# -- whole runs ------------------------------------------------------------------------------------


@pytest.mark.parametrize("algorithm", TRAINED_APART)
def test_no_update_that_reaches_the_server_is_longer_than_the_bound(tmp_path, algorithm):
    changes = {"algorithm": algorithm, "num_rounds": 1, "local_epochs": 2}
    changes |= {"num_clients": 4, "client_groups": 2}
    quick_run(tmp_path, "free", postprocessors=f"{LOG}, transport", **changes)
    free = lengths()
    captured.clear()
    quick_run(tmp_path, "bound", postprocessors=f"{OWN}, transport", **changes)
    found = lengths()
    assert {key[0] for key in found} == {1}
    assert {part for *_, part in found} == {part for *_, part in free}
    assert max(found.values()) <= BOUND + NOISE + ROUNDING
    # The bound is one: without it updates are longer, with it some are about as long as it lets.
    assert max(free.values()) > 2 * (BOUND + NOISE)
    assert max(found.values()) > BOUND - NOISE


@pytest.mark.parametrize("algorithm", ["fedavg", "feddag"])
def test_two_runs_are_equal_to_the_bit_and_differ_from_one_without_noise(tmp_path, algorithm):
    one, two = (
        quick_run(
            tmp_path,
            name,
            algorithm=algorithm,
            grid_seed=seed,
            num_rounds=1,
            postprocessors=f"{OWN}, transport",
        )
        for seed, name in enumerate(["one", "two"])
    )
    assert floats_of(one) == floats_of(two)
    metrics = [(each.folder.path / "metrics.jsonl").read_bytes() for each in (one, two)]
    assert metrics[0] == metrics[1]
    plain = quick_run(tmp_path, "plain", algorithm=algorithm, num_rounds=1)
    assert floats_of(plain) != floats_of(one)


@pytest.mark.parametrize("transport", ["float16", "bfloat16"])
def test_number_formats_come_last(tmp_path, transport):
    names = f"{OWN}, transport"
    quick_run(tmp_path, algorithm="fedavg", transport=transport, postprocessors=names)
    bits = {"float16": 11, "bfloat16": 8}[transport]
    moved = [
        float(np.linalg.norm(reply.update_of(part)))
        for _, replies in captured
        for reply in replies.values()
        for part in reply.parts
    ]
    assert len(moved) == 2 * 6 * 2
    assert max(moved) <= (BOUND + NOISE) * (1 + 2.0**-bits) + ROUNDING


def test_without_postprocessors_a_run_in_float32_is_the_same(tmp_path):
    plain = quick_run(tmp_path, "plain", algorithm="fedavg")
    none = quick_run(tmp_path, "none", algorithm="fedavg", postprocessors="")
    assert floats_of(plain) == floats_of(none)


@pytest.mark.parametrize("algorithm", ["fedavg", "feddag"])
def test_the_server_state_survives_a_resume(tmp_path, algorithm):
    own = {"algorithm": algorithm, "postprocessors": f"{OWN}, transport"}
    own |= {"observers": "round-log, checkpoints", "num_clients": 4, "client_groups": 2}
    whole = quick_run(tmp_path, "whole", num_rounds=2, **own)
    quick_run(tmp_path, "parts", num_rounds=1, **own)
    settings = quick_settings(
        num_clusters=2,
        participation=1.0,
        num_rounds=2,
        resume=str(tmp_path / "parts"),
        run_dir=str(tmp_path),
        **own,
    )
    captured.clear()
    resumed = open_run(settings)
    resumed.start(MemoryGrid(settings))
    assert [server_round for server_round, _ in captured] == [2]
    assert resumed.training.postprocessors.state_dict() == {OWN: {"rounds": 2}}
    assert floats_of(resumed) == floats_of(whole)


def test_a_run_with_other_postprocessors_does_not_go_on(tmp_path):
    kept = "round-log, checkpoints"
    quick_run(tmp_path, "parts", algorithm="fedavg", num_rounds=1, observers=kept)
    settings = quick_settings(
        algorithm="fedavg",
        num_clusters=2,
        participation=1.0,
        resume=str(tmp_path / "parts"),
        run_dir=str(tmp_path),
        postprocessors=f"{OWN}, transport",
    )
    with pytest.raises(SettingsError, match="postprocessors"):
        open_run(settings)


def test_who_is_left_out_on_the_server_has_failed(tmp_path, caplog):
    caplog.set_level(logging.WARNING)
    quick_run(tmp_path, algorithm="fedavg", num_rounds=1, postprocessors=f"{DROPS}, transport")
    assert "no valid reply from client-1" in caplog.text


# -- one after the other ---------------------------------------------------------------------------


def test_clients_apply_them_in_order_and_the_server_in_reverse():
    chain = Postprocessors.of(f"{__name__}:First, {__name__}:Second")
    start = {"primary": Weights(np.zeros(1, np.float32))}
    update = {"primary": Weights(np.full(1, 3, np.float32))}
    carried = chain.on_client(update, start, context_of())
    assert carried["primary"].floats.tolist() == [3 * 2 + 5]
    assert update["primary"].floats.tolist() == [3]
    assert calls == ["first", "second"]

    calls.clear()
    replies = {name: TrainReply(1, update, start) for name in ("b", "a", "c")}
    assert list(chain.on_server(replies, 1)) == ["a", "b", "c"]
    assert calls == ["second", "first"]


def test_a_reply_of_other_parts_says_how_far_these_have_moved():
    start = {"primary": Weights(np.ones(2, np.float32))}
    reply = TrainReply(4, {"primary": Weights(np.full(2, 3, np.float32))}, start)
    other = reply.with_parts({"primary": Weights(np.array([1, 7], np.float32))})
    assert other.update_of("primary").tolist() == [0, 6]
    assert (other.samples, other.starts) == (4, start)


def test_what_a_client_loses_or_the_server_invents_is_told():
    one = Weights(np.ones(1, np.float32))
    parts = {"primary": one, "classifier": one}
    with pytest.raises(RegistryError, match=r"LosesAPart' made parts .*'client-2', must be"):
        Postprocessors.of(f"{__name__}:LosesAPart").on_client(parts, parts, context_of())
    with pytest.raises(RegistryError, match=r"InventsAClient' made replies of \['nobody'\]"):
        Postprocessors.of(f"{__name__}:InventsAClient").on_server(
            {"client-1": TrainReply(1, parts, parts)}, 1
        )


def test_noise_is_drawn_for_one_client_round_purpose_and_seed():
    def draw(context, purpose="noise"):
        return context.rng(purpose).normal(size=3).tolist()

    settings = quick_settings(seed=2)
    draws = [
        draw(context_of()),
        draw(context_of(), "other"),
        draw(context_of(client="client-3")),
        draw(context_of(server_round=4)),
        draw(context_of(settings=settings)),
        # What training draws for a purpose of the same name.
        generator(1, "noise", server_round=3, client="client-2").normal(size=3).tolist(),
    ]
    assert len(set(map(tuple, draws))) == len(draws)
    assert draw(context_of()) == draws[0]


# -- the setting -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"postprocessors": "clip"}, "'clip' must be transport or package.module:attribute"),
        ({"postprocessors": f"transport, {OWN}"}, "transport must be the last one"),
        ({"postprocessors": f"{OWN}, {OWN}"}, "each postprocessor once"),
        ({"postprocessors": OWN, "transport": "float16"}, "'float16' needs 'transport' as the"),
    ],
)
def test_a_faulty_setting_is_refused(changes, message):
    with pytest.raises(SettingsError, match=f"postprocessors = .*{message}"):
        quick_settings(**changes)


def test_what_cannot_be_made_is_told_by_name():
    with pytest.raises(RegistryError, match=r"postprocessors = 'json:absent'"):
        Postprocessors.of("json:absent")
    with pytest.raises(RegistryError, match=r"postprocessors = '.*:Rated': .* missing 1 required"):
        Postprocessors.of(f"{__name__}:Rated")

import json

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from judgements import METRICS, evaluation
from sklearn.metrics import accuracy_score, balanced_accuracy_score, log_loss

from feddag_flwr.engine.resumption import evaluations_from_json, evaluations_to_json
from feddag_flwr.metrics import (
    MAX_LOSS,
    Evaluation,
    MetricError,
    load_metrics,
    mean_over_clients,
    metric_names,
)
from feddag_flwr.registry import RegistryError

NAN, INF = float("nan"), float("inf")


def drawn(count, classes, seed):
    rng = np.random.default_rng(seed)
    scores = torch.from_numpy(3 * rng.normal(size=(count, classes)).astype(np.float32))
    return scores, torch.from_numpy(rng.integers(classes, size=count))


def judged(scores, labels):
    losses = torch.nn.functional.cross_entropy(scores, labels, reduction="none")
    return Evaluation.of(METRICS, scores, labels, losses)


@pytest.mark.parametrize("seed", range(3))
def test_values_are_scikit_learns(seed):
    scores, labels = drawn(200, 5, seed)
    found = judged(scores, labels)
    truth, guess = labels.numpy(), scores.argmax(dim=1).numpy()
    assert found.value("accuracy") == pytest.approx(accuracy_score(truth, guess))
    assert found.value("balanced-accuracy") == pytest.approx(balanced_accuracy_score(truth, guess))
    shares = np.exp(scores.double().numpy())
    shares /= shares.sum(axis=1, keepdims=True)
    assert found.value("loss") == pytest.approx(log_loss(truth, shares, labels=range(5)), rel=1e-5)


def test_figures_by_hand():
    # Class 0: 9 of 10, class 1: 1 of 2, class 2 absent: balanced (0.9 + 0.5) / 2, plain 10 / 12.
    found = evaluation([9, 1, 0], [10, 2, 0], loss_sum=6.0).figures()
    assert found == pytest.approx(
        {"balanced-accuracy": 0.7, "accuracy": 10 / 12, "loss": 0.5}, rel=1e-12
    )


@settings(deadline=None, max_examples=30)
@given(st.integers(1, 60), st.integers(2, 6), st.integers(0, 99), st.integers(1, 20))
def test_batches_merge_to_one_pass(count, classes, seed, size):
    scores, labels = drawn(count, classes, seed)
    whole = judged(scores, labels)
    merged = Evaluation.merged(
        judged(scores[start : start + size], labels[start : start + size])
        for start in range(0, count, size)
    )
    assert merged.totals.tolist() == whole.totals.tolist()
    assert merged.figures() == pytest.approx(whole.figures(), rel=1e-5)
    for name in ("accuracy", "balanced-accuracy"):
        assert (merged.states[name]["hits"] == whole.states[name]["hits"]).all()


@pytest.mark.parametrize("value", [NAN, INF, -INF])
def test_a_diverged_model_has_states_that_pass_the_check(value):
    scores, labels = torch.full((4, 3), value), torch.tensor([0, 1, 1, 2])
    found = judged(scores, labels)
    for metric in METRICS:
        metric.check(found.states[metric.name], found.totals)
    assert found.value("loss") == MAX_LOSS / 2
    assert np.isfinite(list(found.figures().values())).all()


@pytest.mark.parametrize(
    ("name", "state"),
    [
        ("accuracy", {"hits": np.array(-1)}),
        ("accuracy", {"hits": np.array(4)}),
        ("balanced-accuracy", {"hits": np.array([-1, 0, 0])}),
        ("balanced-accuracy", {"hits": np.array([1, 2, 1])}),
        ("loss", {"sum": np.array(-1e-9)}),
        ("loss", {"sum": np.array(3.1 * MAX_LOSS)}),
    ],
)
def test_states_that_cannot_be_are_refused(name, state):
    (metric,) = load_metrics([name])
    with pytest.raises(MetricError):
        metric.check(state, np.array([1, 2, 0]))


def test_each_client_counts_once_and_empty_ones_do_not():
    found = mean_over_clients([evaluation([1], [1]), evaluation([0], [100]), evaluation([0], [0])])
    assert found == {"clients": 2, "balanced-accuracy": 0.5, "accuracy": 0.5, "loss": 0.0}
    assert mean_over_clients([]) == {"clients": 0}


def test_evaluations_survive_a_checkpoint():
    known = {"a": evaluation([1, 2], [3, 4], 0.1), "b": evaluation([0, 0], [0, 0])}
    found = evaluations_from_json(json.loads(json.dumps(evaluations_to_json(known))), METRICS)
    assert list(found) == ["a", "b"]
    for name, each in known.items():
        assert found[name].totals.tolist() == each.totals.tolist()
        for metric, state in each.states.items():
            for key, values in state.items():
                read = found[name].states[metric][key]
                assert (read == values).all()
                assert read.dtype == values.dtype


@pytest.mark.parametrize("text", ["", "accuracy, accuracy", "f1", "a:b:c"])
def test_names_that_are_none_are_refused(text):
    with pytest.raises(RegistryError, match="setting metrics = "):
        metric_names(text)


def test_the_first_is_the_headline():
    assert metric_names(" loss,accuracy") == ("loss", "accuracy")
    assert [metric.name for metric in load_metrics(("loss", "accuracy"))] == ["loss", "accuracy"]

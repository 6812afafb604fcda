"""F1, ranking and calibration against scikit-learn and torchmetrics, on pooled predictions."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, f1_score, roc_auc_score
from torchmetrics.functional.classification import (
    multiclass_auroc,
    multiclass_average_precision,
    multiclass_calibration_error,
    multiclass_f1_score,
)

from feddag_flwr.metrics import (
    Evaluation,
    MetricError,
    load_metrics,
    pooled,
    spread_over_clients,
)

NAMES = ("macro-f1", "auroc", "average-precision", "calibration-error", "balanced-accuracy")
METRICS = load_metrics(NAMES)
AUROC = METRICS[1]
# Half the pairs that lie in one bin of 0.19 log odds, for scores as they are drawn here.
BIN = 0.01


def drawn(count, classes, seed, strength=2.0):
    """Scores that know something of the labels."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(classes, size=count)
    scores = rng.normal(size=(count, classes)) + strength * (labels[:, None] == np.arange(classes))
    return torch.from_numpy(scores.astype(np.float32)), torch.from_numpy(labels)


def judged(scores, labels):
    losses = torch.nn.functional.cross_entropy(scores, labels, reduction="none")
    return Evaluation.of(METRICS, scores, labels, losses)


def in_parts(scores, labels, parts):
    """The same as of several clients."""
    pieces = np.array_split(np.arange(len(labels)), parts)
    return {f"client-{i}": judged(scores[p], labels[p]) for i, p in enumerate(pieces)}


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("classes", [2, 5])
def test_pooled_values_are_those_of_the_libraries(seed, classes):
    scores, labels = drawn(400, classes, seed)
    found = pooled(in_parts(scores, labels, 7).values())
    shares, truth = scores.double().softmax(dim=1), labels.numpy()
    guess = scores.argmax(dim=1).numpy()
    assert found["macro-f1"] == pytest.approx(f1_score(truth, guess, average="macro"))
    assert found["macro-f1"] == pytest.approx(
        float(multiclass_f1_score(scores, labels, classes)), rel=1e-5
    )
    expected = float(multiclass_calibration_error(shares, labels, classes, n_bins=15, norm="l1"))
    assert found["calibration-error"] == pytest.approx(expected, abs=1e-6)
    area = roc_auc_score(np.eye(classes)[truth], shares.numpy(), average="macro")
    assert found["auroc"] == pytest.approx(area, abs=BIN)
    assert area == pytest.approx(float(multiclass_auroc(shares, labels, classes)), rel=1e-5)
    precision = average_precision_score(np.eye(classes)[truth], shares.numpy(), average="macro")
    assert found["average-precision"] == pytest.approx(precision, abs=2 * BIN)
    theirs = multiclass_average_precision(shares, labels, classes)
    assert precision == pytest.approx(float(theirs), rel=1e-5)


@settings(deadline=None, max_examples=25)
@given(st.integers(2, 80), st.integers(2, 4), st.integers(0, 99))
def test_ranking_is_exact_for_scores_that_are_far_apart(count, classes, seed):
    """Where scores that differ lie in bins that differ, binning loses nothing."""
    scores, labels = drawn(count, classes, seed)
    scores = (scores / 2).round() * 2  # log odds of two classes: multiples of 2, or equal
    if classes != 2 or labels.min() == labels.max():
        return
    found = judged(scores, labels)
    shares, truth = scores.double().softmax(dim=1).numpy(), labels.numpy()
    ranks = np.round(scores.numpy()[:, 1] - scores.numpy()[:, 0])
    area = np.mean([roc_auc_score(truth, ranks), roc_auc_score(1 - truth, -ranks)])
    precision = np.mean(
        [average_precision_score(truth, ranks), average_precision_score(1 - truth, -ranks)]
    )
    if np.abs(ranks).max() < 12:
        assert found.value("auroc") == pytest.approx(area)
        assert found.value("average-precision") == pytest.approx(precision)
    assert shares.shape == (count, 2)


def test_ranking_by_hand():
    """Of class 1 two samples (odds 3 and 0), of class 0 two (odds 1 and -2): 3 of 4 in order."""
    scores = torch.tensor([[0.0, 3.0], [0.0, 0.0], [0.0, 1.0], [0.0, -2.0]])
    labels = torch.tensor([1, 1, 0, 0])
    assert judged(scores, labels).value("auroc") == pytest.approx(0.75)
    # Ranks of class 1: hit, miss, hit, miss: (1/1 + 2/3) / 2; of class 0: hit, miss, hit: the same.
    assert judged(scores, labels).value("average-precision") == pytest.approx((1 + 2 / 3) / 2)


def test_f1_by_hand():
    """Class 0: 2 of 3 found and one taken for it; class 2 is neither there nor predicted."""
    scores = torch.eye(3)[[0, 0, 1, 0]]
    found = judged(scores, torch.tensor([0, 0, 0, 1]))
    assert found.value("macro-f1") == pytest.approx((2 * 2 / 6 + 0) / 2)
    details = found.details()["macro-f1"]
    assert details["confusion"] == [[2, 1, 0], [1, 0, 0], [0, 0, 0]]
    assert details["f1-by-class"] == [pytest.approx(2 / 3), 0.0, None]
    assert found.details()["balanced-accuracy"] == {
        "recall-by-class": [pytest.approx(2 / 3), 0.0, None]
    }


def test_calibration_by_hand():
    """Confidence 0.9 and right half of the time: off by 0.4."""
    scores = torch.log(torch.tensor([[0.9, 0.1], [0.9, 0.1]]))
    found = judged(scores, torch.tensor([0, 1]))
    assert found.value("calibration-error") == pytest.approx(0.4, abs=1e-6)


def test_a_class_that_all_samples_have_has_no_rank():
    found = judged(*[torch.zeros(3, 2), torch.zeros(3, dtype=torch.int64)])
    assert np.isnan(found.value("auroc"))
    assert found.details()["auroc"]["by-class"] == [None, None]


def test_scores_that_are_not_finite_are_bad_and_not_missing():
    scores = torch.full((4, 2), float("nan"))
    found = judged(scores, torch.tensor([0, 1, 0, 1]))
    assert found.value("auroc") == pytest.approx(0.5)
    assert found.value("calibration-error") == pytest.approx(0.5)


@pytest.mark.parametrize("name", NAMES[:4])
def test_states_that_no_samples_led_to_are_refused(name):
    (metric,) = load_metrics([name])
    evaluation = judged(*drawn(20, 3, 0))
    state = {key: values.copy() for key, values in evaluation.states[name].items()}
    metric.check(state, evaluation.totals)
    for key in state:
        for change in (1, -100):
            wrong = {k: v.copy() for k, v in state.items()}
            wrong[key].flat[0] += 100 * change
            with pytest.raises(MetricError):
                metric.check(wrong, evaluation.totals)


def test_worst_client_and_tenth():
    """Eleven clients right in 0, 1, .. 10 of 10: the 10th percentile is the second lowest."""
    evaluations = {}
    for right in range(11):
        guesses = torch.tensor([0] * right + [1] * (10 - right))
        scores = torch.eye(2)[guesses]
        evaluations[f"client-{right:02}"] = judged(scores, torch.zeros(10, dtype=torch.int64))
    spread = spread_over_clients(evaluations)
    recall = spread["balanced-accuracy"]
    assert recall["worst-client"] == "client-00"
    assert recall["worst"] == 0.0
    assert recall["10th-percentile"] == pytest.approx(0.1)
    # A smaller calibration error is better: the worst are those with the largest.
    errors = {n: e.value("calibration-error") for n, e in evaluations.items()}
    assert spread["calibration-error"]["worst"] == max(errors.values())
    assert spread["calibration-error"]["10th-percentile"] == pytest.approx(
        np.percentile(list(errors.values()), 90)
    )


def test_nobody_with_test_data_has_no_figures():
    assert pooled([]) == {}
    assert spread_over_clients({}) == {}

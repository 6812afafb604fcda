import numpy as np
import pytest
from sklearn.metrics import balanced_accuracy_score

from feddag_flwr.metrics import Evaluation, mean_over_clients


def evaluation(hits, totals, loss_sum=0.0):
    return Evaluation(np.array(hits), np.array(totals), loss_sum)


def test_figures_by_hand():
    # Class 0: 9 of 10, class 1: 1 of 2, class 2 absent: balanced (0.9 + 0.5) / 2, plain 10 / 12.
    found = evaluation([9, 1, 0], [10, 2, 0], loss_sum=6.0)
    assert found.balanced_accuracy == pytest.approx(0.7)
    assert found.accuracy == pytest.approx(10 / 12)
    assert found.loss == pytest.approx(0.5)


def test_balanced_accuracy_is_scikit_learns():
    rng = np.random.default_rng(0)
    truth, guess = rng.integers(5, size=200), rng.integers(5, size=200)
    totals = np.bincount(truth, minlength=7)
    hits = np.bincount(truth[truth == guess], minlength=7)
    expected = balanced_accuracy_score(truth, guess)
    assert evaluation(hits, totals).balanced_accuracy == pytest.approx(expected)


def test_each_client_counts_once_and_empty_ones_do_not():
    found = mean_over_clients([evaluation([1], [1]), evaluation([0], [100]), evaluation([0], [0])])
    assert found == {"clients": 2, "balanced-accuracy": 0.5, "accuracy": 0.5, "loss": 0.0}
    assert mean_over_clients([]) == {"clients": 0}

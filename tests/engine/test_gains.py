"""Who gains what by which model, worked by hand."""

import pytest

from feddag_flwr.engine.gains import ALONE, CLUSTERED, ONE, SAME, Compared
from feddag_flwr.metrics import load_metrics

ACCURACY, LOSS = load_metrics(("balanced-accuracy", "loss"))

FIGURES = {
    CLUSTERED: {"ward-1": 0.9, "ward-2": 0.9, "ward-3": 0.6, "ward-4": 0.5, "ward-5": 1.0},
    ONE: {"ward-1": 0.8, "ward-2": 0.9, "ward-3": 0.5, "ward-4": 0.7, "ward-5": 0.9},
    ALONE: {"ward-1": 0.7, "ward-2": 0.8, "ward-3": 0.8, "ward-4": 0.6, "ward-5": float("nan")},
}


def test_the_sentence_the_counts_and_the_best_of_each_client():
    found = Compared(ACCURACY, FIGURES).summary({"ward-1": 2})
    assert found["sentence"] == (
        "clustering pays for 1 of 4 clients; 1 does as well without; ward-3 would be better off "
        "alone; ward-4 would be better off with one model for all; not compared: 1"
    )
    assert found["counts"] == {CLUSTERED: 1, ONE: 1, ALONE: 1, SAME: 1}
    assert [found["clients"][f"ward-{i}"]["best"] for i in range(1, 6)] == [
        CLUSTERED, SAME, ALONE, ONE, None
    ]  # fmt: skip
    assert found["clients"]["ward-1"] == {
        "cluster": 2, "clustered": 0.9, "one-model": 0.8, "alone": 0.7, "best": "clustered",
    }  # fmt: skip
    assert found["clients"]["ward-5"]["alone"] is None
    assert found["not-compared"] == ["ward-5"]


def test_means_worst_clients_and_percentiles_are_over_those_compared():
    found = Compared(ACCURACY, FIGURES).summary({})
    assert found["mean"] == pytest.approx({CLUSTERED: 0.725, ONE: 0.725, ALONE: 0.725})
    assert found["worst-client"] == {
        CLUSTERED: {"client": "ward-4", "figure": 0.5},
        ONE: {"client": "ward-3", "figure": 0.5},
        ALONE: {"client": "ward-4", "figure": 0.6},
    }
    # Of four ordered figures the 10th percentile is 0.3 of the way from the first to the second.
    assert found["10th-percentile"] == pytest.approx({CLUSTERED: 0.53, ONE: 0.56, ALONE: 0.63})


def test_of_a_loss_the_smaller_is_better():
    figures = {
        CLUSTERED: {"a": 0.2, "b": 0.5},
        ONE: {"a": 0.3, "b": 0.6},
        ALONE: {"a": 1, "b": 0.4},
    }
    compared = Compared(LOSS, figures)
    assert compared.verdict("a") == CLUSTERED
    assert compared.verdict("b") == ALONE
    found = compared.summary({})
    assert found["worst-client"][ALONE] == {"client": "a", "figure": 1}
    assert found["10th-percentile"][CLUSTERED] == pytest.approx(0.47)
    assert (
        found["gain"] == "clustering gained 0.1 of loss over one model for all: 0.35 against 0.45"
    )


def test_the_gain_in_a_line():
    figures = {CLUSTERED: {"a": 0.75}, ONE: {"a": 0.8}, ALONE: {"a": 0.1}}
    assert Compared(ACCURACY, figures).gain() == (
        "clustering lost 5.00 points of balanced accuracy to one model for all: 75.00 % against "
        "80.00 %"
    )


def test_what_the_run_is_itself_is_not_compared_with_itself():
    fedavg = Compared(ACCURACY, {m: FIGURES[m] for m in (CLUSTERED, ALONE)}, ONE).summary({})
    assert fedavg["gain"] == ""
    assert fedavg["sentence"] == (
        "one model for all pays for 2 of 4 clients; ward-3 and ward-4 would be better off alone; "
        "not compared: 1"
    )
    local = Compared(ACCURACY, {m: FIGURES[m] for m in (CLUSTERED, ONE)}, ALONE).summary({})
    assert local["sentence"].startswith("training alone pays for 3 of 5 clients; 1 does as well")
    assert local["gain"].startswith("training alone gained 2.00 points")


def test_many_clients_are_not_all_named_and_none_may_be_left():
    names = [f"c{number}" for number in range(8)]
    figures = {CLUSTERED: dict.fromkeys(names, 0.1), ALONE: dict.fromkeys(names, 0.2)}
    verdicts = dict.fromkeys(names, ALONE)
    assert Compared(ACCURACY, figures).sentence(verdicts) == (
        "clustering pays for 0 of 8 clients; "
        "c0, c1, c2, c3, c4 and 3 more would be better off alone"
    )
    empty = Compared(ACCURACY, {CLUSTERED: {"a": 0.5}, ONE: {}, ALONE: {}}).summary({})
    assert empty["sentence"] == "no client could be compared; not compared: 1"
    assert empty["mean"] == {CLUSTERED: None, ONE: None, ALONE: None}
    assert empty["gain"] == ""

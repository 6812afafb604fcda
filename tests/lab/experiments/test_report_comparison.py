import numpy as np
import pytest
from fabricated_results import evaluation, write_suite, write_trial

from feddag_lab.experiments.comparison import compare, compare_all, reference_of
from feddag_lab.experiments.results import read_results
from feddag_lab.experiments.statistics import t_interval


def results_of(folder, trials, algorithms=("FedAvg", "FedDAG"), seeds=(1, 2), **more):
    """`trials`: (algorithm, seed) to the shares of clients, or keywords of `write_trial`."""
    write_suite(folder, algorithms, {"s": None}, seeds)
    for (algorithm, seed), given in trials.items():
        keywords = given if "shares" in given else {"shares": given}
        write_trial(folder, algorithm, "s", seed, **{**more, **keywords})
    return read_results(folder)


def test_differences_by_hand(tmp_path):
    results = results_of(
        tmp_path,
        {
            ("FedDAG", 1): {"a": 0.90, "b": 0.80},
            ("FedAvg", 1): {"a": 0.80, "b": 0.76},  # 10 and 4 points: 7
            ("FedDAG", 2): {"a": 0.70, "b": 0.60},
            ("FedAvg", 2): {"a": 0.68, "b": 0.60},  # 2 and 0 points: 1
        },
    )
    (found,) = compare_all(results)
    assert (found.reference, found.baseline, found.scenario) == ("FedDAG", "FedAvg", "s")
    assert found.seed_means == pytest.approx({1: 7.0, 2: 1.0})
    assert (found.mean, found.pairs, found.notes) == (pytest.approx(4.0), 4, ())
    # Every bootstrap replicate lies between the smallest and the largest difference.
    assert 0.0 <= found.bootstrap.low < 4.0 < found.bootstrap.high <= 10.0
    expected = t_interval([7.0, 1.0])
    assert found.student.low == pytest.approx(expected.low)
    # t(0.975, 1) times 3 points of standard error is 38: no claim about other seeds.
    assert found.outcome == "over clients only: win"


@pytest.mark.parametrize(
    ("ours", "theirs", "outcome"),
    [
        ({"a": 0.9, "b": 0.8}, {"a": 0.5, "b": 0.5}, "win"),
        ({"a": 0.5, "b": 0.5}, {"a": 0.9, "b": 0.8}, "loss"),
        ({"a": 0.9, "b": 0.5}, {"a": 0.5, "b": 0.9}, "tie"),
        ({"a": 0.5, "b": 0.5}, {"a": 0.5, "b": 0.5}, "tie"),
    ],
)
def test_outcomes_and_their_confirmation(tmp_path, ours, theirs, outcome):
    trials = {("FedDAG", s): ours for s in (1, 2)} | {("FedAvg", s): theirs for s in (1, 2)}
    (found,) = compare_all(results_of(tmp_path, trials))
    # Both seeds agree to the last digit, so the t interval is a point.
    assert found.outcome == outcome


def test_one_seed_has_an_interval_over_clients_alone(tmp_path):
    shares = {f"c{i}": 0.5 + 0.01 * i for i in range(20)}
    other = dict.fromkeys(shares, 0.5)
    trials = {("FedDAG", 1): shares, ("FedAvg", 1): other}
    (found,) = compare_all(results_of(tmp_path, trials, seeds=(1,)))
    differences = 100 * (np.array(list(shares.values())) - 0.5)
    # The normal interval of a mean of 20: close to the bootstrap's.
    half = 1.96 * differences.std() / np.sqrt(20)
    assert found.mean == pytest.approx(9.5)
    assert found.bootstrap.low == pytest.approx(9.5 - half, abs=0.15)
    assert found.bootstrap.high == pytest.approx(9.5 + half, abs=0.15)
    assert found.student is None
    assert found.outcome == "over clients only: win"


def test_seeds_that_one_of_the_two_lacks_are_named(tmp_path):
    trials = {("FedDAG", 1): {"a": 0.9, "b": 0.8}, ("FedAvg", 1): {"a": 0.8, "b": 0.8},
             ("FedDAG", 2): {"a": 0.9, "b": 0.8}}  # fmt: skip
    (found,) = compare_all(results_of(tmp_path, trials))
    assert found.lacking == {2: ("FedAvg",)}
    assert found.notes == ()
    assert list(found.seed_means) == [1]


def test_nothing_to_compare(tmp_path):
    (found,) = compare_all(results_of(tmp_path, {}))
    assert (found.mean, found.bootstrap, found.student, found.outcome) == (None,) * 4
    assert found.pairs == 0
    assert found.lacking == {1: ("FedDAG", "FedAvg"), 2: ("FedDAG", "FedAvg")}


def test_parts_that_differ_are_not_paired(tmp_path):
    shares = {"a": 0.9, "b": 0.8}
    trials = {
        ("FedDAG", 1): shares,
        ("FedAvg", 1): {"shares": shares, "samples": {"a": 100, "b": 90}},
        ("FedDAG", 2): {"shares": shares, "groups": {"a": 0, "b": 1}},
        ("FedAvg", 2): {"shares": shares, "groups": {"a": 1, "b": 1}},
    }
    (found,) = compare_all(results_of(tmp_path, trials))
    assert found.mean is None
    first, second = found.notes
    assert first == (
        "seed 1, FedAvg against FedDAG, not paired: the parts differ: 1 of 2 clients have other "
        "test data, b has 100 samples against 90"
    )
    assert "1 of 2 clients are in other true groups, a in 0 against 1" in second


def test_clients_without_a_partner_are_left_out_and_named(tmp_path):
    trials = {
        ("FedDAG", 1): {"a": 0.9, "b": 0.8, "c": 0.1},
        ("FedAvg", 1): {"a": 0.8, "b": 0.8},
        ("FedDAG", 2): {"a": 0.9},
        ("FedAvg", 2): {"z": 0.8},
    }
    results = results_of(tmp_path, trials, settings={"num-clients": 3})
    (found,) = compare_all(results)
    assert found.seed_means == pytest.approx({1: 5.0})
    assert found.notes == (
        "seed 1: in one of the two only, left out: c",
        "seed 2, FedAvg against FedDAG, not paired: they have no client in common",
    )


def test_unseen_clients_are_compared_where_a_scenario_is_judged_by_them(tmp_path):
    trials = {
        (name, 1): {"shares": {"a": 0.5}, "extra": {"unseen": evaluation({"u": u, "v": v})}}
        for name, u, v in (("FedDAG", 0.9, 0.8), ("FedAvg", 0.6, 0.6))
    }
    trials["IFCA", 1] = {"a": 0.9}
    algorithms = ("FedAvg", "IFCA", "FedDAG")
    share = {"held-out-share": 0.5, "num-clients": 2}
    results = results_of(tmp_path, trials, algorithms, seeds=(1,), settings=share)
    found, without = compare_all(results)
    assert (found.mean, found.pairs) == (pytest.approx(25.0), 2)
    assert (without.mean, without.lacking) == (None, {1: ("IFCA",)})


def test_the_reference_is_feddag_or_else_the_first(tmp_path):
    assert reference_of(results_of(tmp_path / "1", {})) == "FedDAG"
    others = results_of(tmp_path / "2", {}, algorithms=("warm-start", "regularizer"))
    assert reference_of(others) == "warm-start"


def test_a_further_baseline_changes_no_interval(tmp_path):
    rng = np.random.default_rng(0)
    trials = {
        (name, seed): {f"c{i}": float(value) for i, value in enumerate(rng.random(10))}
        for name in ("FedDAG", "FedAvg", "IFCA")
        for seed in (1, 2)
    }
    few = results_of(tmp_path / "few", {k: v for k, v in trials.items() if k[0] != "IFCA"})
    many = results_of(tmp_path / "many", trials, algorithms=("IFCA", "FedAvg", "FedDAG"))
    one, other = (compare(each, "s", "FedDAG", "FedAvg") for each in (few, many))
    assert one.bootstrap == other.bootstrap

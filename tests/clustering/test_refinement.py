import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.stats import t as student
from scipy.stats import ttest_ind

from feddag_flwr.clustering.refinement import (
    FEWEST,
    chance_of_common_gain,
    chance_of_gain,
    level_of_check,
    nested_groups,
    outermost,
    proposed_parts,
    sufficient_parts,
    trimmed_mean,
)

NUMBERS = st.floats(-100, 100, width=32)


def test_the_chances_of_all_checks_add_up_to_the_rate():
    levels = [level_of_check(0.01, number) for number in range(1, 10_001)]
    assert levels[:3] == pytest.approx([0.005, 0.01 / 6, 0.01 / 12])
    assert sum(levels) == pytest.approx(0.01 * (1 - 1 / 10_001))  # a telescope


def test_the_chance_of_one_clients_gain():
    assert chance_of_gain(2.0, 0.25, 7) == pytest.approx(student.sf(4.0, 7))
    assert chance_of_gain(-2.0, 0.25, 7) == chance_of_gain(0.0, 0.0, 7) == 1.0
    assert chance_of_gain(2.0, 0.25, 0) == 1.0  # nothing is known of how losses vary
    assert chance_of_gain(2.0, 0.0, 7) == 0.0


@pytest.mark.parametrize("number", [4, 9, 25])
def test_the_chance_of_a_common_gain_is_yuens(number):
    values = np.random.default_rng(number).standard_t(3, number) + 0.5
    trimmed = max(1, number // 10) / number + 1e-9
    # Of two samples, of which one is zero throughout, Yuen's test is that of the other.
    expected = ttest_ind(
        values, np.zeros(number), equal_var=False, trim=trimmed, alternative="greater"
    )
    assert chance_of_common_gain(values) == pytest.approx(expected.pvalue)


@given(arrays(float, st.integers(FEWEST, 12), elements=NUMBERS), st.floats(-1e12, 1e12))
def test_one_client_moves_the_mean_no_further_than_the_others_reach(values, lie):
    lying = trimmed_mean(np.append(values, lie))
    assert values.min() - 1e-9 <= lying <= values.max() + 1e-9


def test_one_liar_neither_makes_nor_hides_a_gain():
    rng = np.random.default_rng(2)
    nothing, something = rng.normal(-0.1, 0.05, 9), rng.normal(0.5, 0.05, 9)
    assert chance_of_common_gain(np.append(nothing, 1e9)) == 1.0
    assert chance_of_common_gain(np.append(something, -1e9)) < 1e-6


def test_three_clients_are_too_few():
    assert chance_of_common_gain(np.ones(3)) == 1.0 and chance_of_common_gain(np.ones(4)) == 0.0
    assert trimmed_mean(np.zeros(0)) == -np.inf


def test_where_nobody_gains_a_gain_is_seen_at_the_rate_at_most():
    rng = np.random.default_rng(5)
    chances = np.array([chance_of_common_gain(rng.normal(size=10)) for _ in range(2000)])
    assert (chances <= 0.05).mean() < 0.07  # four standard errors above


def test_as_few_parts_as_do():
    rng = np.random.default_rng(3)
    three = rng.random(12)
    two, four = three + 0.5 + 0.1 * rng.random(12), three - 0.01 * rng.normal(size=12)
    assert sufficient_parts({2: two, 3: three, 4: four}, 0.01) == 3
    assert sufficient_parts({4: four}, 0.01) == 4
    with pytest.raises(ValueError, match="no number"):
        sufficient_parts({}, 0.01)


def test_proposals_are_wards_on_directions_away_from_the_mean():
    rng = np.random.default_rng(4)
    directions = np.eye(3).repeat(4, axis=0)
    updates = 5.0 + np.outer(np.arange(1, 13), np.ones(3)) * directions + 0.01 * rng.random((12, 3))
    found = proposed_parts(updates.astype(np.float32), [2, 3, 4])
    assert list(found) == [2, 3, 4]
    away = updates - updates.mean(axis=0)
    away /= np.linalg.norm(away, axis=1, keepdims=True)
    tree = linkage(away, "ward")
    for number, labels in found.items():
        other = fcluster(tree, number, "maxclust")
        assert len(set(labels)) == number == len(set(zip(labels, other, strict=True)))


@given(st.integers(2, 12), st.integers(0, 1000))
def test_proposals_are_nested_and_equal_updates_change_nothing(clients, seed):
    updates = np.random.default_rng(seed).integers(-1, 2, (clients, 3)).astype(float)
    found = proposed_parts(updates, range(2, clients + 1))
    for number in range(2, clients + 1):
        assert len(set(found[number].tolist())) == number
    for number in range(2, clients):
        pairs = set(zip(found[number + 1].tolist(), found[number].tolist(), strict=True))
        assert len(pairs) == number + 1
    assert len(set(proposed_parts(np.zeros((clients, 3)), [2])[2].tolist())) == 2


def test_groups_of_models_are_nested():
    models = np.array([[0.0], [10.0], [1.0], [12.5]])
    assert nested_groups(models) == [(0, 1, 2, 3), (1, 3), (0, 2)]
    assert nested_groups(models[:1]) == []
    assert outermost([(1, 3), (0, 2)]) == [(1, 3), (0, 2)]
    assert outermost([(0, 1, 2, 3), (1, 3)]) == [(0, 1, 2, 3)]

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
    Gains,
    chance_of_common_gain,
    chance_of_gain,
    chance_of_mean_gain,
    direction_distances,
    is_certain,
    is_likely,
    level_of_check,
    nested_groups,
    outermost,
    proposed_parts,
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


# -- these clients, under these models -------------------------------------------------------------


def gains_of(values, variances=1.0, freedoms=50.0):
    values = np.asarray(values, dtype=float)
    full = np.ones(len(values))
    return Gains(values, variances * full, freedoms * full)


def test_the_chance_of_a_mean_gain_by_hand():
    variances = np.array([9.0, 1.0, 2.0, 4.0, 0.0, 3.0])
    freedoms = np.array([10.0, 20.0, 30.0, 40.0, 50.0, 90.0])
    gains = Gains(np.array([8.0, 1.0, 2.0, 3.0, -9.0, 2.5]), variances, freedoms)
    # One is trimmed at either end; left are 1, 2, 3, 2.5 with variances 1, 2, 4, 3.
    freedom = 10.0**2 / (1 / 20 + 4 / 30 + 16 / 40 + 9 / 50)  # 90 counts as 50
    assert chance_of_mean_gain(gains) == pytest.approx(student.sf(8.5 / np.sqrt(10.0), freedom))


def test_clients_that_gain_differently_much_gain_for_certain():
    gains = gains_of([0.9, 0.2, 1.6, 0.3, 0.8, 0.2], 0.01)
    assert chance_of_common_gain(gains.values) > 0.01 and chance_of_mean_gain(gains) < 1e-12
    assert is_certain(gains, 1e-9)


def test_what_is_certain_of_some_clients_must_be_likely_of_such():
    gains = gains_of([9.0, 0.0, 0.0, 0.0, 0.1, 5.0], 0.0001)
    assert chance_of_mean_gain(gains) < 1e-12
    assert not is_likely(gains) and not is_certain(gains, 0.01)


@pytest.mark.parametrize("differ", [0.0, 3.0])
def test_these_clients_gain_nothing_at_the_level_at_most(differ):
    rng = np.random.default_rng(6)
    truth = differ * np.linspace(-1.0, 1.0, 12)  # nothing on the trimmed mean
    spread = np.linspace(0.5, 2.0, 12)[rng.permutation(12)]
    chances = np.array(
        [chance_of_mean_gain(gains_of(rng.normal(truth, spread), spread**2)) for _ in range(2000)]
    )
    assert (chances <= 0.05).mean() < 0.07  # four standard errors above


@pytest.mark.parametrize(
    "lie", [(1e9, 0.0, 1e9), (-1e9, 0.0, 1.0), (0.5, 1e12, 1.0), (0.5, 0.0, 1e9)]
)
def test_one_liar_neither_makes_nor_hides_a_mean_gain(lie):
    rng = np.random.default_rng(7)
    for mean, certain in ((-0.2, False), (0.5, True)):
        honest = gains_of(mean + 0.1 * rng.normal(size=8), 0.01)
        told = np.stack([honest.values, honest.variances, honest.freedoms])
        assert (chance_of_mean_gain(Gains(*np.column_stack([told, lie]))) < 1e-6) == certain


def test_who_cannot_tell_how_losses_vary_has_no_say_and_three_are_too_few():
    gains = gains_of(np.ones(7), 0.01, np.array([9, 9, 9, 0, 0, 0, 0.0]))
    assert chance_of_mean_gain(gains) == 1.0
    assert chance_of_mean_gain(gains_of(np.ones(3), 0.01)) == 1.0
    assert chance_of_mean_gain(gains_of(np.ones(4), 0.0)) == 0.0
    assert chance_of_mean_gain(gains_of(-np.ones(9))) == 1.0


# -- proposals -------------------------------------------------------------------------------------


def test_directions_are_those_away_from_the_mean():
    rng = np.random.default_rng(8)
    updates = rng.normal(size=(7, 4)) * np.arange(1, 8)[:, None] + 3.0
    away = updates - updates.mean(axis=0)
    away /= np.linalg.norm(away, axis=1, keepdims=True)
    expected = np.square(away[:, None] - away).sum(axis=2)
    for shift in (0.0, updates.mean(axis=0), 1.5):
        shifted = updates - shift
        assert direction_distances(shifted @ shifted.T) == pytest.approx(expected)
    assert direction_distances(np.ones((5, 5))) == pytest.approx(np.zeros((5, 5)))


def test_proposals_are_wards_and_the_clearest_comes_first():
    rng = np.random.default_rng(4)
    points = np.eye(3).repeat(4, axis=0) + 0.01 * rng.random((12, 3))
    distances = np.square(points[:, None] - points).sum(axis=2)
    found = proposed_parts(distances, [2, 3, 4])
    assert next(iter(found)) == 3 and sorted(found) == [2, 3, 4]
    tree = linkage(points, "ward")
    for number, labels in found.items():
        other = fcluster(tree, number, "maxclust")
        assert len(set(labels)) == number == len(set(zip(labels, other, strict=True)))


@given(st.integers(4, 12), st.integers(0, 1000))
def test_proposals_are_nested_and_equal_updates_change_nothing(clients, seed):
    updates = np.random.default_rng(seed).integers(-1, 2, (clients, 3)).astype(float)
    distances = direction_distances(updates @ updates.T)
    found = proposed_parts(distances, range(2, clients))
    for number in range(2, clients):
        assert len(set(found[number].tolist())) == number
    for number in range(2, clients - 1):
        pairs = set(zip(found[number + 1].tolist(), found[number].tolist(), strict=True))
        assert len(pairs) == number + 1
    assert len(set(proposed_parts(np.zeros((clients, clients)), [2])[2].tolist())) == 2


def test_groups_of_models_are_nested():
    models = np.array([[0.0], [10.0], [1.0], [12.5]])
    assert nested_groups(models) == [(0, 1, 2, 3), (1, 3), (0, 2)]
    assert nested_groups(models[:1]) == []
    assert outermost([(1, 3), (0, 2)]) == [(1, 3), (0, 2)]
    assert outermost([(0, 1, 2, 3), (1, 3)]) == [(0, 1, 2, 3)]

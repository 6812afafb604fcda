"""Single clients that are unlike the others are told, and what is odd about them."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from looks import bases_of

from feddag_flwr.similarity.class_subspaces import ClassSubspaces
from feddag_flwr.similarity.exchanged_classes import exchanged_classes, gains_of_labels
from feddag_flwr.similarity.odd_clients import odd_clients
from feddag_flwr.similarity.whitened_looks import WhitenedLooks

RATE = 0.01


def found(bases, counts, groups=None):
    groups = np.zeros(len(counts), dtype=int) if groups is None else groups
    return odd_clients(ClassSubspaces(bases, counts, "vectors"), groups, RATE)


def made(seed, odd_one=None, number=24, classes=8):
    """Clients of one kind of unequal sizes; number 3 is changed as asked."""
    rng = np.random.default_rng(seed)
    counts = rng.integers(8, 40, (number, classes))
    groups = np.zeros(number, dtype=int)
    if odd_one == "another look":
        groups[3] = 1
    bases = bases_of(groups, counts, rng, unlike=0.8)
    if odd_one == "exchanged":
        bases[3, [2, 5]] = bases[3, [5, 2]]
    if odd_one == "reversed":
        bases[3] = bases[3, ::-1]
    return bases, counts


@pytest.mark.parametrize("seed", range(4))
def test_a_client_whose_classes_all_look_otherwise_is_told(seed):
    told = found(*made(seed, "another look"))
    assert [(one.row, one.exchanged) for one in told] == [(3, ())]
    assert told[0].chance <= RATE / 2


@pytest.mark.parametrize("seed", range(4))
def test_two_exchanged_classes_are_named(seed):
    told = found(*made(seed, "exchanged"))
    assert [(one.row, one.exchanged) for one in told] == [(3, ((2, 5),))]


def test_reversed_classes_are_named_pair_by_pair():
    (told,) = found(*made(0, "reversed"))
    assert (told.row, told.exchanged) == (3, ((0, 7), (1, 6), (2, 5), (3, 4)))


def test_of_clients_of_one_kind_none_is_told():
    alarms = sum(bool(found(*made(seed))) for seed in range(100, 140))
    assert alarms <= 2  # of 40, each by a chance of 0.01 at most: more than 2 comes once in 130


def test_who_is_odd_in_one_group_may_be_at_home_in_another():
    rng = np.random.default_rng(1)
    counts = rng.integers(20, 40, (24, 6))
    groups = np.arange(24) % 2
    bases = bases_of(groups, counts, rng, unlike=0.8)
    assert not found(bases, counts, groups)
    placed = groups.copy()
    placed[5] = 0  # of group 1
    assert [one.row for one in found(bases, counts, placed)] == [5]


@pytest.mark.parametrize("number", [1, 2, 7])
def test_among_few_clients_nobody_is_told(number):
    bases, counts = made(0, "exchanged", number=max(4, number))
    assert not found(bases[:number], counts[:number])


def test_classes_that_nobody_or_one_client_holds_are_no_obstacle():
    bases, counts = made(2, "exchanged")
    counts[:, 7] = 0
    counts[1:, 6] = 0
    bases[counts == 0] = 0.0
    assert [(one.row, one.exchanged) for one in found(bases, counts)] == [(3, ((2, 5),))]


def test_equal_clients_are_not_odd():
    counts = np.full((12, 3), 9)
    bases = np.tile(np.eye(3, 5)[:, None].astype(np.float32), (12, 1, 1, 1))
    assert not found(bases, counts)


@given(
    st.integers(0, 2**32 - 1), st.integers(1, 14), st.integers(1, 6), st.sampled_from([1, 3, 3000])
)
@settings(max_examples=25)
@pytest.mark.filterwarnings("error::RuntimeWarning")
def test_whatever_clients_hold_chances_are_chances(seed, number, classes, most):
    """One image, no image, missing classes, equal clients and vectors of zeros are no obstacle."""
    rng = np.random.default_rng(seed)
    counts = rng.integers(0, most + 1, (number, classes))
    bases = bases_of(np.zeros(number, dtype=int), counts, rng)
    bases[rng.random(number) < 0.2] = bases[0]
    bases[rng.random(counts.shape) < 0.1] = 0.0
    for one in found(bases, counts):
        assert 0 <= one.row < number
        assert 0.0 < one.chance <= RATE
        assert all(left < right < classes for left, right in one.exchanged)


@pytest.mark.parametrize("seed", range(3))
def test_exchanged_and_noisy_clients_are_told_among_eight(seed):
    """As few as may be; pure noise in features that nobody varies in is far, however small."""
    bases, counts = made(seed, "exchanged", number=9)
    told = found(bases, counts)
    assert [(one.row, one.exchanged) for one in told] == [(3, ((2, 5),))]


def test_small_noise_where_nobody_varies_is_told():
    bases, counts = made(5)
    bases = np.pad(bases, ((0, 0), (0, 0), (0, 0), (0, 40)))
    rng = np.random.default_rng(5)
    bases[..., 12:] = rng.normal(0.0, 1e-4, bases[..., 12:].shape)
    bases[3, ..., 12:] = rng.normal(0.0, 0.02, bases[3, ..., 12:].shape)
    assert [one.row for one in found(bases, counts)] == [3]


def test_three_classes_that_went_round_are_told_but_no_pair():
    bases, counts = made(1)
    bases[3, [1, 2, 4]] = bases[3, [2, 4, 1]]
    assert [(one.row, one.exchanged) for one in found(bases, counts)] == [(3, ())]


@pytest.mark.parametrize("seed", range(3))
def test_two_vectors_that_lie_between_two_classes_are_no_exchange(seed):
    """Each may be odd by chance, and one client's both: it takes as much as an exchange gains."""
    bases, counts = made(seed)
    two, five = bases[3, 2].copy(), bases[3, 5].copy()
    five *= np.sign((two[0] * five[0]).sum())
    bases[3, 2], bases[3, 5] = 0.42 * two + 0.58 * five, 0.58 * two + 0.42 * five
    bases[3, [2, 5]] /= np.linalg.norm(bases[3, [2, 5]], axis=-1, keepdims=True)
    data = ClassSubspaces(bases, counts, "vectors")
    looks = WhitenedLooks.of(data.bases, data.seen)
    told = exchanged_classes(looks, 8, RATE / 3, np.random.default_rng(0))
    own = np.tile(np.arange(len(counts)), (counts.shape[1], 1))
    gains, _ = gains_of_labels(looks, own)
    assert gains[3, 2, 5] + gains[3, 5, 2] > 0.0  # the labels do fit better exchanged
    assert 3 not in told

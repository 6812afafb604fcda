import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from feddag_flwr.data.holdout import stratified_test_indices
from feddag_flwr.data.partition import (
    assign_groups,
    classes_per_group,
    client_indices,
    deal_classes,
    label_skew_counts,
    largest_remainder,
    lda_counts,
)
from feddag_flwr.data.samples import DataError

ALPHAS = st.sampled_from([1e-12, 0.01, 0.25, 1.0, 10.0, 1e6])


@pytest.mark.parametrize(
    ("shares", "total", "expected"),
    [
        # quotas 3.5, 2.1, 1.4: floors 3, 2, 1; the one left goes to the remainder 0.5
        ([0.5, 0.3, 0.2], 7, [4, 2, 1]),
        # quotas 4.7, 1.6, 1.58, 1.2, 0.61, 0.31: floors 4, 1, 1, 1, 0, 0; to 0.7, 0.61 and 0.6
        ([47, 16, 15.8, 12, 6.1, 3.1], 10, [5, 2, 1, 1, 1, 0]),
        ([1, 1, 1, 1], 6, [2, 2, 1, 1]),  # equal remainders: the first are served first
        ([0, 0, 0], 4, [2, 1, 1]),  # no shares at all count as equal
        ([0, 3, 0], 5, [0, 5, 0]),
        ([0.2, 0.8], 0, [0, 0]),
    ],
)
def test_largest_remainder_by_hand(shares, total, expected):
    assert largest_remainder(np.array(shares, dtype=float), total).tolist() == expected


@given(
    st.lists(st.floats(0, 1e9), min_size=1, max_size=60).filter(
        lambda shares: sum(shares) == 0 or sum(shares) > 1e-100
    ),
    st.integers(0, 10**9),
)
def test_largest_remainder_adds_up_and_stays_within_one(shares, total):
    shares = np.array(shares)
    counts = largest_remainder(shares, total)
    assert counts.sum() == total
    assert counts.min() >= 0
    if shares.sum() > 0:
        assert np.abs(counts - shares / shares.sum() * total).max() < 1 + 1e-6


@pytest.mark.parametrize(
    ("classes", "rho", "expected"),
    [(10, 20.0, 2), (10, 30.0, 3), (10, 25.0, 3), (10, 24.9, 2), (10, 1.0, 1), (7, 100.0, 7)],
)
def test_rho_percent_of_the_classes_round_half_up(classes, rho, expected):
    assert classes_per_group(classes, rho) == expected


@given(st.integers(1, 30), st.integers(1, 40), st.data(), st.integers(0, 1000))
def test_classes_are_all_dealt_before_any_again(classes, groups, data, seed):
    per_group = data.draw(st.integers(1, classes))
    dealt = deal_classes(classes, groups, per_group, seed)
    assert len(dealt) == groups
    times = np.zeros(classes, dtype=int)
    for held in dealt:
        assert len(set(held.tolist())) == per_group
        times[held] += 1
        assert times.max() - times.min() <= 1


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize(
    ("classes", "per_group", "groups", "distinct"),
    [
        (10, 2, 5, 5),
        (10, 3, 5, 5),
        (10, 2, 12, 12),
        (4, 2, 9, 6),
        (3, 3, 4, 1),
        (10, 9, 10, 10),
        (10, 2, 30, 30),
    ],
)
def test_class_sets_differ_where_possible(classes, per_group, groups, distinct, seed):
    dealt = deal_classes(classes, groups, per_group, seed)
    assert len({tuple(held.tolist()) for held in dealt}) == distinct


def test_class_sets_depend_on_the_seed():
    assert len({str(deal_classes(10, 5, 2, seed)) for seed in range(5)}) == 5


@given(st.integers(1, 200), st.data(), st.integers(0, 1000))
def test_groups_have_equal_sizes(clients, data, seed):
    groups = data.draw(st.integers(1, clients))
    sizes = np.bincount(assign_groups(clients, groups, seed), minlength=groups)
    assert sizes.sum() == clients
    assert sizes.max() - sizes.min() <= 1


def _label_skew(sizes, clients, groups, per_group, alpha, floor, seed):
    return label_skew_counts(
        sizes,
        [str(label) for label in range(len(sizes))],
        groups=assign_groups(clients, groups, seed),
        group_classes=deal_classes(len(sizes), groups, per_group, seed),
        alpha=alpha,
        floor=floor,
        seed=seed,
    )


@settings(deadline=None, max_examples=60)
@given(
    st.integers(1, 12), st.integers(1, 60), st.data(), ALPHAS, st.integers(1, 4),
    st.integers(0, 1000),
)  # fmt: skip
def test_label_skew_counts_add_up_with_the_floor(classes, clients, data, alpha, floor, seed):
    groups = data.draw(st.integers(1, clients))
    per_group = data.draw(st.integers(1, classes))
    extra = data.draw(st.lists(st.integers(0, 500), min_size=classes, max_size=classes))
    sizes = [floor * clients + more for more in extra]
    counts = _label_skew(sizes, clients, groups, per_group, alpha, floor, seed)
    held = deal_classes(classes, groups, per_group, seed)
    of_client = assign_groups(clients, groups, seed)
    for client in range(clients):
        assert np.flatnonzero(counts[client]).tolist() == held[of_client[client]].tolist()
    assert counts[counts > 0].min() >= floor
    used = counts.any(axis=0)
    assert used.sum() == min(classes, per_group * groups)
    assert (counts.sum(axis=0) == np.where(used, sizes, 0)).all()


@settings(deadline=None, max_examples=100)
@given(
    st.lists(st.integers(0, 300), min_size=1, max_size=12), st.data(), ALPHAS, st.integers(1, 5),
    st.integers(0, 1000),
)  # fmt: skip
def test_lda_counts_add_up_with_the_floor(sizes, data, alpha, floor, seed):
    most = min(sum(sizes) // floor, 80)
    if most < 1:
        return
    clients = data.draw(st.integers(1, most))
    counts = lda_counts(sizes, num_clients=clients, alpha=alpha, floor=floor, seed=seed)
    assert counts.shape == (clients, len(sizes))
    assert counts.min() >= 0
    assert (counts.sum(axis=0) == sizes).all()
    assert counts.sum(axis=1).min() >= floor


def test_lda_floor_can_take_every_sample():
    counts = lda_counts([30, 30, 40], num_clients=50, alpha=0.25, floor=2, seed=3)
    assert (counts.sum(axis=1) == 2).all()
    with pytest.raises(DataError, match="100 training samples, but 51 clients need"):
        lda_counts([30, 30, 40], num_clients=51, alpha=0.25, floor=2, seed=3)


def test_label_skew_says_which_class_is_too_small():
    with pytest.raises(DataError, match=r"class '1' has 5 training samples, but its 3 clients "
                       r"need min-class-samples = 2 each \(6\)"):  # fmt: skip
        _label_skew([50, 5], 3, 1, 2, 1.0, 2, 0)


@pytest.mark.parametrize("alpha", [0.25, 1.0, 10.0])
def test_label_skew_shares_follow_the_dirichlet(alpha):
    # symmetric Dirichlet over H holders: mean 1/H, variance (1/H)(1 - 1/H) / (H alpha + 1)
    holders, samples = 20_000, 10**9
    counts = _label_skew([samples], holders, 1, 1, alpha, 1, 7)[:, 0]
    shares = counts / samples
    expected = (1 / holders) * (1 - 1 / holders) / (holders * alpha + 1)
    assert shares.mean() == pytest.approx(1 / holders)
    assert shares.var() == pytest.approx(expected, rel=0.12)


@pytest.mark.parametrize("alpha", [0.25, 1.0])
def test_lda_proportions_follow_the_dirichlet(alpha):
    # Dirichlet(alpha p) over classes: mean p_c, variance p_c (1 - p_c) / (alpha + 1)
    prior = np.array([0.1, 0.2, 0.3, 0.4])
    sizes = (prior * 10**9).astype(int).tolist()
    counts = lda_counts(sizes, num_clients=10_000, alpha=alpha, floor=1, seed=5)
    proportions = counts / counts.sum(axis=1, keepdims=True)
    assert proportions.mean(axis=0) == pytest.approx(prior, abs=0.015)
    assert proportions.var(axis=0) == pytest.approx(prior * (1 - prior) / (alpha + 1), rel=0.06)


@pytest.mark.parametrize("scenario", ["label-skew", "lda"])
def test_parts_are_disjoint_cover_all_and_match_their_counts(scenario):
    labels = np.random.default_rng(0).integers(0, 6, 3000)
    sizes = np.bincount(labels).tolist()
    if scenario == "lda":
        counts = lda_counts(sizes, num_clients=40, alpha=0.25, floor=2, seed=1)
    else:
        counts = _label_skew(sizes, 40, 5, 2, 0.25, 2, 1)
    parts = [client_indices(labels, counts, client, 1) for client in range(40)]
    assert sorted(np.concatenate(parts).tolist()) == list(range(3000))
    for part, wanted in zip(parts, counts, strict=True):
        assert np.bincount(labels[part], minlength=6).tolist() == wanted.tolist()


@given(
    st.lists(st.integers(0, 40), min_size=1, max_size=8), st.floats(0.01, 0.99),
    st.integers(0, 100),
)  # fmt: skip
def test_hold_out_keeps_the_balance_of_classes(sizes, fraction, seed):
    labels = np.repeat(np.arange(len(sizes)), sizes)
    labels = np.random.default_rng(seed).permutation(labels)
    test = stratified_test_indices(labels, fraction, seed)
    assert len(set(test.tolist())) == len(test)
    held_out = np.bincount(labels[test], minlength=len(sizes))
    for size, count in zip(sizes, held_out, strict=True):
        if size < 2:
            assert count == 0
        else:
            assert 1 <= count <= size - 1
            assert abs(count - size * fraction) <= 1


def test_hold_out_by_hand():
    labels = np.array([0] * 10 + [1] * 6 + [2])
    test = stratified_test_indices(labels, 0.25, 1)  # 2.5 and 1.5 round up, one sample stays
    assert np.bincount(labels[test], minlength=3).tolist() == [3, 2, 0]
    assert test.tolist() == stratified_test_indices(labels, 0.25, 1).tolist()
    assert test.tolist() != stratified_test_indices(labels, 0.25, 2).tolist()

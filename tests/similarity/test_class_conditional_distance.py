"""The class-conditional view, each step against another computation."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import f_oneway

from feddag_flwr.similarity import matrices
from feddag_flwr.similarity.class_conditional_distance import (
    ClassConditionalDistance,
    class_noise,
    row_distances,
)

CLIENTS, CLASSES = 14, 5


def draw(seed, *, clients=CLIENTS, classes=CLASSES, absent=0.3):
    """Random symmetric angles and counts; everybody has the first class."""
    rng = np.random.default_rng(seed)
    counts = rng.integers(1, 60, (clients, classes)) * (rng.random((clients, classes)) > absent)
    counts[:, 0] = rng.integers(1, 60, clients)
    angles = rng.uniform(5, 90, (classes, clients, clients)).astype(np.float32)
    angles = np.maximum(angles, angles.swapaxes(1, 2))
    angles[:, np.arange(clients), np.arange(clients)] = 0
    return angles, counts


def draw_kinds(seed, **more):
    """The same of two kinds of clients, by turns: angles across are wider."""
    angles, counts = draw(seed, **more)
    angles[:, ::2, 1::2] += 40
    angles[:, 1::2, ::2] += 40
    return angles, counts


def brute_values(angles, counts, noise):
    """Corrected angles less a line through those of each class, and their mean: plain loops."""
    corrected = {}
    for c in range(counts.shape[1]):
        for i, j in itertools.combinations(range(len(counts)), 2):
            if counts[i, c] and counts[j, c]:
                own = noise[c] ** 2 * (1 / counts[i, c] + 1 / counts[j, c])
                corrected[i, j, c] = max(0.0, float(angles[c, i, j]) ** 2 - own) ** 0.5
    keys = list(corrected)
    levels = [[float(label == c) for c in range(counts.shape[1])] for _, _, label in keys]
    sizes = [[(1 / counts[i, c] + 1 / counts[j, c]) ** 0.5] for i, j, c in keys]
    wanted = np.array(list(corrected.values()))
    design = np.hstack([levels, sizes])
    fitted = np.linalg.lstsq(design, wanted, rcond=None)[0]
    if fitted[-1] <= 0 or np.ptp(sizes) == 0:  # noise does not shrink: levels alone
        design = np.array(levels)
        fitted = np.linalg.lstsq(design, wanted, rcond=None)[0]
    return dict(zip(keys, wanted - design @ fitted, strict=True)), wanted.mean()


def test_noise_alone_is_found_and_taken_out():
    _, counts = draw(1)
    sigma = np.array([3.0, 7.0, 1.0, 20.0, 5.0])
    known = counts.astype(float)
    with np.errstate(divide="ignore"):
        inverse = 1 / known.T[:, :, None] + 1 / known.T[:, None, :]
    angles = np.where(np.isfinite(inverse), sigma[:, None, None] * np.sqrt(inverse), 90.0)
    angles[:, np.arange(CLIENTS), np.arange(CLIENTS)] = 0
    enough = (counts > 0).sum(axis=0) >= 10
    assert enough.any()
    assert not enough.all()  # classes of few holders keep their angles
    found = class_noise(angles.astype(np.float32), counts)
    np.testing.assert_allclose(found, np.where(enough, sigma, 0.0), rtol=1e-6)

    only = counts * enough
    class_conditional, pairs = ClassConditionalDistance.of(angles, only)
    assert class_conditional.mean == pytest.approx(0.0, abs=0.1)
    assert pairs.max() < 0.1


def pair_sizes(counts):
    """Size of the noise of each class and pair, (C, N, N)."""
    inverse = 1 / counts.T[:, :, None] + 1 / counts.T[:, None, :]
    return np.sqrt(inverse) * ~np.eye(len(counts), dtype=bool)


def test_what_grows_as_noise_does_is_taken_out_of_all_classes_alike():
    """Eight holders are too few for their peers to tell the noise."""
    rng = np.random.default_rng(0)
    counts, levels = rng.integers(1, 60, (8, CLASSES)), np.array([30.0, 12, 25, 40, 18])
    sizes = pair_sizes(counts)
    angles = (levels[:, None, None] + 7.0 * sizes) * ~np.eye(8, dtype=bool)
    class_conditional, pairs = ClassConditionalDistance.of(angles, counts)
    assert not class_conditional.noise.any()
    assert class_conditional.noise_left == pytest.approx(7.0)
    np.testing.assert_allclose(class_conditional.class_means, levels)
    off = ~np.eye(8, dtype=bool)
    assert class_conditional.mean == pytest.approx(angles[:, off].mean())
    assert class_conditional.certain == 0.0
    np.testing.assert_allclose(pairs[off], class_conditional.mean, atol=1e-6)


def test_angles_that_shrink_with_the_noise_keep_what_they_are():
    counts = np.random.default_rng(0).integers(1, 60, (8, 2))
    angles = (40.0 - 7.0 * pair_sizes(counts)) * ~np.eye(8, dtype=bool)
    class_conditional, _ = ClassConditionalDistance.of(angles, counts)
    assert class_conditional.noise_left == 0.0
    off = ~np.eye(8, dtype=bool)
    np.testing.assert_allclose(class_conditional.class_means, angles[:, off].mean(axis=1))


def test_equal_clients_have_no_noise_left_but_for_rounding():
    angles, _ = draw(0)
    assert ClassConditionalDistance.of(angles, np.full((CLIENTS, CLASSES), 7))[0].noise_left == 0.0


def test_a_newcomer_of_another_size_has_a_founder_s_row():
    rng = np.random.default_rng(1)
    counts = rng.integers(1, 60, (9, CLASSES))
    kinds = np.arange(9) % 2
    looks = 30.0 * (kinds[:, None] != kinds) + 10
    off = ~np.eye(9, dtype=bool)
    class_conditional, pairs = ClassConditionalDistance.of(
        (looks + 15 * pair_sizes(counts)) * off, counts
    )
    assert class_conditional.noise_left > 5
    few = np.full((1, CLASSES), 2)
    size = np.sqrt(1 / few.T[:, :, None] + 1 / counts.T[:, None, :])
    row = class_conditional.rows(looks[[0]] + 15 * size, few, counts)[0]
    kin = kinds == kinds[0]
    assert row[kin].max() < 20 < row[~kin].min()
    assert np.abs(row - pairs[0])[1:].max() < 5


def test_noise_is_the_median_client_s():
    counts = np.full((11, 1), 8)  # 1 / 8 + 1 / 8: twice the angle is the noise
    angles = np.full((1, 11, 11), 6.0, dtype=np.float32)
    angles[:, :3] = angles[:, :, :3] = 60.0
    angles[:, np.arange(11), np.arange(11)] = 0
    np.testing.assert_allclose(class_noise(angles, counts), [12.0])


@pytest.mark.parametrize("entries", [1, 40])
def test_nothing_depends_on_how_rows_are_cut_into_blocks(entries, monkeypatch):
    angles, counts = draw_kinds(2)
    whole, pairs = ClassConditionalDistance.of(angles, counts)
    assert (whole.noise > 0).any()
    monkeypatch.setattr(matrices, "BLOCK_ENTRIES", entries)
    found, again = ClassConditionalDistance.of(angles, counts)
    np.testing.assert_array_equal(found.noise, whole.noise)
    np.testing.assert_allclose(found.class_means, whole.class_means)
    assert found.reliability == pytest.approx(whole.reliability)
    np.testing.assert_allclose(again, pairs)
    rows = whole.rows(angles[:, :3], counts[:3], counts)
    others = ~np.eye(3, CLIENTS, dtype=bool)
    np.testing.assert_allclose(rows[others], pairs[:3][others])


@pytest.mark.parametrize("seed", range(5))
def test_reliability_is_that_of_an_analysis_of_variance(seed):
    angles, counts = draw(seed)
    class_conditional, _ = ClassConditionalDistance.of(angles, counts)
    values, overall = brute_values(angles, counts, class_conditional.noise)
    assert class_conditional.mean == pytest.approx(overall)
    groups = {}
    for (i, j, _), value in values.items():
        groups.setdefault((i, j), []).append(value)
    groups = [group for group in groups.values() if len(group) >= 2]
    sizes = np.array([len(group) for group in groups])
    number = (sizes.sum() - (sizes**2).sum() / sizes.sum()) / (len(sizes) - 1)
    held = (counts > 0).astype(int)
    fitted = levels(counts, held @ held.T) + (class_conditional.noise_left > 0)
    free = sizes.sum() - len(sizes)  # what f_oneway takes for free, though means were taken off
    statistic = f_oneway(*groups).statistic * (free - fitted) / free
    expected = (statistic - 1) / (statistic - 1 + number)
    assert class_conditional.reliability == pytest.approx(max(0.0, expected), abs=1e-6)
    assert 0 <= class_conditional.certain <= class_conditional.reliability


def test_clients_that_differ_in_every_class_are_reliable_and_chance_is_not():
    angles, counts = draw(3, clients=30, absent=0.2)
    kinds = np.arange(30) % 3
    alike = kinds[:, None] == kinds
    grouped = np.where(alike, angles / 9, 60 + angles / 9).astype(np.float32)
    grouped[:, np.arange(30), np.arange(30)] = 0
    assert ClassConditionalDistance.of(angles, counts)[0].reliability < 0.1
    class_conditional, pairs = ClassConditionalDistance.of(grouped, counts)
    assert class_conditional.reliability > 0.9
    off = ~np.eye(30, dtype=bool)
    assert pairs[alike & off].max() < pairs[~alike].min()


def test_what_is_certain_follows_the_f_distribution():
    """Three kinds of clients, four classes each: F by scipy, its 95 % quantile from a table."""
    rng = np.random.default_rng(0)
    kinds = np.arange(13) % 3
    looks = np.where(kinds[:, None] == kinds, 10.0, 20.0)
    angles = looks + rng.normal(0, 4, (4, 13, 13))
    angles = np.abs(np.triu(angles, 1)) + np.abs(np.triu(angles, 1)).swapaxes(1, 2)
    counts = np.full((13, 4), 10**9)
    noiseless = counts[:9], angles[:, :9, :9]  # fewer than ten holders: nothing is taken out
    class_conditional, _ = ClassConditionalDistance.of(noiseless[1], noiseless[0])
    values, _ = brute_values(noiseless[1], noiseless[0], np.zeros(4))
    groups = [[values[i, j, c] for c in range(4)] for i, j in itertools.combinations(range(9), 2)]
    # Of 144 angles less 36 means of pairs, the means of four classes take three.
    limit = f_oneway(*groups).statistic * 105 / 108 / 2.355  # F(0.95; 8, 24)
    assert class_conditional.certain == pytest.approx((limit - 1) / (limit + 3), abs=1e-3)


@pytest.mark.parametrize("informed", [3, 5, 8])
def test_clients_that_share_no_two_classes_do_not_make_the_others_more_certain(informed):
    """Angles are noise; most clients have one class, so that they have nothing to say."""
    given = []
    for seed in range(20):
        rng = np.random.default_rng([informed, seed])
        counts = np.eye(10, dtype=int)[rng.integers(2, 10, 100)] * 20
        counts[:informed] = 0
        counts[:informed, :2] = 20  # fewer than ten holders: their noise is not looked for
        angles, _ = draw(seed, clients=100, classes=10)
        class_conditional, _ = ClassConditionalDistance.of(angles, counts)
        alone, _ = ClassConditionalDistance.of(
            angles[:2, :informed, :informed], counts[:informed, :2]
        )
        given.append(class_conditional.certain > 0.2)
        assert class_conditional.certain == pytest.approx(alone.certain, abs=0.02)
    assert np.mean(given) <= 0.1


@pytest.mark.parametrize(("clients", "classes", "each"), [(100, 100, 5), (10, 10, 3), (12, 20, 5)])
def test_kinds_are_certain_where_most_pairs_share_one_class_or_none(clients, classes, each):
    """Levels of classes that other pairs share are not at the cost of those that share two."""
    found = {True: 0, False: 0}
    for seed, grouped in itertools.product(range(20), found):
        rng = np.random.default_rng(seed)
        held = np.argsort(rng.random((clients, classes)), axis=1) < each
        kinds = np.arange(clients) % 2
        apart = 30.0 * grouped * (kinds[:, None] != kinds)
        angles = np.triu(20.0 + apart + rng.normal(0, 5, (classes, clients, clients)), 1)
        angles = np.abs(angles + angles.swapaxes(1, 2))
        found[grouped] += ClassConditionalDistance.of(angles, held * 20)[0].certain > 0.2
    assert found[True] >= 10
    assert found[False] == 0


def levels(counts, shared):
    """What class means take from the angles of pairs that share two classes: plain loops."""
    of = {
        c: [pair for pair in itertools.combinations(range(len(counts)), 2)
            if all(counts[i, c] for i in pair)]
        for c in range(counts.shape[1])
    }  # fmt: skip
    used = [[shared[pair] >= 2 for pair in pairs] for pairs in of.values() if pairs]
    shares = [np.mean(each) for each in used]
    return sum(shares) - np.average(shares, weights=[sum(each) for each in used])


@pytest.mark.parametrize("seed", range(3))
def test_pairs_are_drawn_towards_the_mean_as_far_as_they_cannot_be_relied_on(seed):
    angles, counts = draw_kinds(seed, absent=0.5)
    counts[:3, 0] = 0
    class_conditional, pairs = ClassConditionalDistance.of(angles, counts)
    values, overall = brute_values(angles, counts, class_conditional.noise)
    r = class_conditional.reliability
    assert r > 0
    lonely = 0
    for i, j in itertools.combinations(range(CLIENTS), 2):
        own = [c for c in range(CLASSES) if (i, j, c) in values]
        if not own:
            lonely += 1
            assert pairs[i, j] == pytest.approx(overall)
            continue
        weights = np.array([1 / (1 / counts[i, c] + 1 / counts[j, c]) for c in own])
        k = weights.sum() ** 2 / (weights**2).sum()
        deviation = np.average([values[i, j, c] for c in own], weights=weights)
        expected = max(0.0, overall + k * r / (1 + (k - 1) * r) * deviation)
        assert pairs[i, j] == pairs[j, i] == pytest.approx(expected, rel=1e-6)
    assert lonely or seed


def test_a_newcomer_like_a_client_has_its_row():
    angles, counts = draw_kinds(7)
    class_conditional, pairs = ClassConditionalDistance.of(angles, counts)
    assert class_conditional.certain < class_conditional.reliability
    assert (class_conditional.noise > 0).any()
    assert not np.diagonal(pairs).any()
    for client in range(CLIENTS):
        row = class_conditional.rows(angles[:, [client]], counts[[client]], counts)[0]
        others = np.arange(CLIENTS) != client
        np.testing.assert_allclose(row[others], pairs[client, others])


def test_a_class_that_one_client_alone_had_says_nothing_of_a_newcomer_by_itself():
    """Its angles have no mean of their own: without another they would all be deviations."""
    angles, counts = draw_kinds(7)
    counts[:, 4] = 0
    counts[0, 4] = 30
    class_conditional, _ = ClassConditionalDistance.of(angles, counts)
    assert class_conditional.reliability > 0
    assert class_conditional.noise_left == 0.0
    assert class_conditional.class_means[4] == class_conditional.mean
    to_one = np.zeros((CLASSES, 1, CLIENTS), dtype=np.float32)
    to_one[4] = class_conditional.mean
    row = class_conditional.rows(to_one, np.array([[0, 0, 0, 0, 30]]), counts)
    np.testing.assert_allclose(row, class_conditional.mean, rtol=1e-6)


def test_an_angle_drawn_below_nothing_is_nothing():
    class_conditional = ClassConditionalDistance(np.zeros(1), 0.0, np.array([70.0]), 50.0, 0.8, 0.7)
    found = class_conditional.rows(np.array([[[0.0, 10.0]]]), [[5]], [[5], [5]])
    np.testing.assert_allclose(found, [[0.0, 50.0 - 0.8 * 60.0]])


def test_clients_without_any_difference_have_no_reliability():
    class_conditional, pairs = ClassConditionalDistance.of(np.zeros((3, 6, 6)), np.full((6, 3), 4))
    assert class_conditional.reliability == class_conditional.certain == 0.0
    assert not pairs.any()


@given(seed=st.integers(0, 999), shift=st.integers(1, CLIENTS - 1))
def test_neither_the_order_of_clients_nor_that_of_classes_matters(seed, shift):
    angles, counts = draw(seed)
    order, classes = np.roll(np.arange(CLIENTS), shift), np.roll(np.arange(CLASSES), 1)
    one, pairs = ClassConditionalDistance.of(angles, counts)
    two, moved = ClassConditionalDistance.of(
        angles[np.ix_(classes, order, order)], counts[np.ix_(order, classes)]
    )
    assert one.reliability == pytest.approx(two.reliability, abs=1e-9)
    np.testing.assert_allclose(pairs[np.ix_(order, order)], moved, atol=1e-9)


@pytest.mark.parametrize("clients", [1, 2, 3])
def test_few_clients_are_no_obstacle(clients):
    angles, counts = draw(2, clients=clients)
    class_conditional, pairs = ClassConditionalDistance.of(angles, counts)
    assert pairs.shape == (clients, clients)
    assert np.isfinite(pairs).all()
    assert 0 <= class_conditional.reliability <= 1
    distances = row_distances(pairs, pairs, same=True)
    assert np.isfinite(distances).all()


def test_clients_that_share_nothing_are_all_alike():
    counts = 5 * np.eye(4, dtype=int)
    angles = np.where(np.eye(4, dtype=bool), 0.0, 90.0) * np.ones((4, 1, 1))
    class_conditional, pairs = ClassConditionalDistance.of(angles, counts)
    assert class_conditional.reliability == 0
    assert not pairs.any()


def test_row_distances_leave_out_the_two_themselves():
    rng = np.random.default_rng(0)
    pairs = rng.uniform(0, 50, (9, 9))
    pairs += pairs.T
    np.fill_diagonal(pairs, 0)
    found = row_distances(pairs, pairs, same=True)
    for i, j in itertools.product(range(9), repeat=2):
        others = [k for k in range(9) if k not in {i, j}]
        gaps = [pairs[i, k] - pairs[j, k] for k in others]
        assert found[i, j] == pytest.approx(np.sqrt(np.mean(np.square(gaps))), abs=1e-6)
    later = rng.uniform(0, 50, (3, 9))
    residents = np.vstack([pairs, rng.uniform(0, 50, (2, 9))])
    rows = row_distances(later, residents)
    for i, j in itertools.product(range(3), range(11)):
        gaps = [later[i, k] - residents[j, k] for k in range(9) if k != j]
        assert rows[i, j] == pytest.approx(np.sqrt(np.mean(np.square(gaps))))


def test_shapes_that_do_not_agree_are_refused():
    angles, counts = draw(1)
    with pytest.raises(ValueError, match="angles must have shape"):
        ClassConditionalDistance.of(angles[:, :5], counts)
    with pytest.raises(ValueError, match="counts must not be negative"):
        ClassConditionalDistance.of(angles, -counts)

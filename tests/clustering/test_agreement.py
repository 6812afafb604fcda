import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from feddag_flwr.clustering.agreement import Agreement, AgreementWatch, sharing_groups


def pulls(directions, labels, noise, rng, size=400):
    """Updates of clients: the direction of their cluster, and noise of their own."""
    return np.stack([directions[z] + noise * rng.normal(size=size) for z in labels])


def test_sums_by_hand():
    # Cluster 0: e1 and (e1 + e2) / sqrt 2, cosine 1 / sqrt 2; cluster 1: e2 alone.
    found = Agreement(2)
    found.add(np.array([[3.0, 0.0], [1.0, 1.0], [0.0, 0.5]]), [0, 0, 1])
    half = 1 / np.sqrt(2)
    np.testing.assert_allclose(found.sums, [[2 * half, half], [half, 0.0]], atol=1e-12)
    np.testing.assert_allclose(found.squares, [[1.0, 0.5], [0.5, 0.0]], atol=1e-12)
    assert found.pairs.tolist() == [[2, 2], [2, 0]]
    assert np.isnan(found.matrix()[0, 1])  # nobody to compare the only client of cluster 1 with
    found.add(np.array([[1.0, 0.0], [0.0, 1.0], [0.0, 2.0]]), [0, 1, 1])
    # m_00 = 1 / sqrt 2 over 2 pairs, m_01 = (1 / sqrt 2 + 0 + 0 + 0) / 4 pairs, m_11 = 1.
    expected = (half / 4) / np.sqrt(half)
    np.testing.assert_allclose(found.matrix(), [[1.0, expected], [expected, 1.0]])


@given(st.lists(st.integers(0, 2), min_size=2, max_size=9), st.integers(0, 9))
def test_sums_are_those_of_all_pairs(labels, seed):
    updates = np.random.default_rng(seed).normal(size=(len(labels), 5))
    found = Agreement(3)
    found.add(updates, labels)
    sums, pairs = np.zeros((3, 3)), np.zeros((3, 3), int)
    for i, j in itertools.permutations(range(len(labels)), 2):
        one, two = updates[i], updates[j]
        sums[labels[i], labels[j]] += one @ two / np.sqrt(one @ one) / np.sqrt(two @ two)
        pairs[labels[i], labels[j]] += 1
    np.testing.assert_allclose(found.sums, sums, atol=1e-9)
    assert (found.pairs == pairs).all()


def test_noise_of_the_clients_does_not_lower_the_agreement():
    rng = np.random.default_rng(0)
    one, other = rng.normal(size=(2, 400))
    labels = [0] * 30 + [1] * 30 + [2] * 30
    directions = [one, 0.6 * one + 0.8 * other, other]
    for noise in (0.1, 2.0, 4.0):
        found = Agreement(3)
        for _ in range(5):
            found.add(pulls(directions, labels, noise, rng), labels)
        assert found.matrix()[0, 1] == pytest.approx(0.6, abs=0.15)
        assert found.matrix()[0, 2] == pytest.approx(0.0, abs=0.15)


def test_an_update_without_direction_does_not_count():
    found = Agreement(1)
    found.add(np.array([[0.0, 0.0], [1.0, 0.0], [np.inf, 0.0], [1.0, 1.0]]), [0, 0, 0, 0])
    assert found.pairs.tolist() == [[2]]
    assert found.sums[0, 0] == pytest.approx(2 / np.sqrt(2))
    assert found.rounds == 1
    empty = Agreement(1)
    empty.add(np.zeros((2, 3)), [0, 0])
    assert empty.pairs.tolist() == [[0]]
    assert not empty.shortfall(0.3).any()


def test_a_shortfall_must_be_certain():
    rng = np.random.default_rng(1)
    one, other = rng.normal(size=(2, 400))
    few, many = [0, 0, 1, 1], [0] * 40 + [1] * 40
    for labels, noise, short in ((many, 1.0, True), (few, 6.0, False)):
        found = Agreement(2)
        found.add(pulls([one, other], labels, noise, rng), labels)
        assert found.shortfall(0.3).tolist() == [[False, short], [short, False]]
    agreeing = Agreement(2)
    agreeing.add(pulls([one, one], many, 1.0, rng), many)
    assert not agreeing.shortfall(0.3).any()


def test_clusters_whose_clients_agree_less_by_far_do_not_fall_short_for_that():
    # Clients of cluster 0 agree by 0.9 or so, of cluster 1 by 0.02: all pull the same way.
    rng = np.random.default_rng(5)
    common, labels = rng.normal(size=2000), [0] * 10 + [1] * 40
    found = Agreement(2)
    for _ in range(8):
        noise = np.array([0.3] * 10 + [7.0] * 40)[:, None] * rng.normal(size=(50, 2000))
        found.add(common + noise, labels)
    within = np.diag(found.sums / found.pairs)
    assert within[0] > 40 * within[1] > 0
    assert found.matrix()[0, 1] == pytest.approx(1.0, abs=0.05)
    assert not found.shortfall(0.8).any()


def test_a_shortfall_is_of_the_agreement_by_three_standard_errors():
    # m_00 = 0.8, m_11 = 0.2, both to 0.02: the root of their product is 0.4 to 0.4 / 2 *
    # sqrt((0.02 / 0.8)^2 + (0.02 / 0.2)^2) = 0.0206. A half of it is 0.2 to 0.0103; m_01 known to
    # 0.03 makes it 0.0317, three times that 0.0952.
    for across, short in ((0.10, True), (0.11, False)):
        found = Agreement(2)
        found.pairs = np.array([[200, 100], [100, 200]])
        means = np.array([[0.8, across], [across, 0.2]])
        errors = np.array([[0.02, 0.03], [0.03, 0.02]])
        found.sums = means * found.pairs
        found.squares = (errors**2 * 99 + means**2) * found.pairs
        assert found.shortfall(0.5).tolist() == [[False, short], [short, False]]


def pair_at(cosine):
    return np.array([[1.0, 0.0, 0.0, 0.0], [cosine, np.sqrt(1 - cosine**2), 0.0, 0.0]])


def test_one_pair_within_a_cluster_tells_no_error():
    # Both clusters' clients agree by 0.9 and neither with the other's: certain, but for one pair
    # in each there is nothing to say by how much it varies.
    updates = np.vstack([pair_at(0.9), np.roll(pair_at(0.9), 2, axis=1)])
    found = Agreement(2)
    found.add(updates, [0, 0, 1, 1])
    assert not found.shortfall(0.3).any()
    found.add(updates, [0, 0, 1, 1])
    assert found.shortfall(0.3).tolist() == [[False, True], [True, False]]


def test_standard_errors_by_hand():
    # Within cluster 0 one pair of cosine 0.2 and one of 0.6, each in both orders: mean 0.4, sample
    # variance (0.2^2 + 0.2^2) / (2 - 1) = 0.08, squared error of the mean 0.08 / 2 = 0.04.
    found = Agreement(1)
    for cosine in (0.2, 0.6):
        found.add(pair_at(cosine), [0, 0])
    np.testing.assert_allclose(found._errors(), [[0.04]])
    # Across: cosines 1, 0.2 and 1, 0.6; mean 0.7, sum of squares about it 0.44, / 3 / 4.
    across = Agreement(2)
    for cosine in (0.2, 0.6):
        across.add(np.vstack([pair_at(cosine), pair_at(cosine)[:1]]), [0, 0, 1])
    np.testing.assert_allclose(across._errors()[0, 1], 0.44 / 3 / 4)


def test_updates_of_mere_noise_part_nobody():
    rng = np.random.default_rng(2)
    labels = np.repeat([0, 1, 2], 10)
    parted = 0
    for _ in range(100):
        found = Agreement(3)
        for _ in range(4):
            found.add(rng.normal(size=(30, 200)), labels)
        parted += found.shortfall(0.3).any()
    assert parted <= 2


@pytest.mark.parametrize(
    ("apart", "groups", "expected"),
    [
        ([], [0, 0, 0], [0, 0, 0]),
        ([(0, 1), (0, 2)], [0, 0, 0], [0, 1, 1]),
        ([(0, 1)], [0, 0, 0], [0, 1, 0]),  # 2 agrees with both: it stays with one
        ([(0, 1), (0, 2), (1, 2)], [0, 0, 0], [0, 1, 2]),
        ([], [0, 1, 0], [0, 1, 0]),  # what has parted is not joined again
        ([(0, 2)], [0, 1, 0], [0, 1, 2]),
        ([], [0], [0]),
    ],
)
def test_groups(apart, groups, expected):
    matrix = np.zeros((len(groups), len(groups)), bool)
    for one, other in apart:
        matrix[one, other] = matrix[other, one] = True
    assert sharing_groups(matrix, groups).tolist() == expected


def watched(course, window=3, noise=1.0):
    """Groups after each round, where the two clusters' directions have the cosines of `course`."""
    rng = np.random.default_rng(3)
    basis = np.linalg.qr(rng.normal(size=(400, 2)))[0].T * 20
    labels, groups, found = [0] * 12 + [1] * 12, [0, 0], []
    watch = AgreementWatch(2, window, 0.3)
    for cosine in course:
        other = cosine * basis[0] + np.sqrt(1 - cosine**2) * basis[1]
        groups = watch.add(pulls([basis[0], other], labels, noise, rng), labels, groups)
        found.append(len(set(groups.tolist())))
    return found


def test_clusters_part_after_two_windows_in_which_they_do_not_agree():
    assert watched([0.0] * 7) == [1] * 5 + [2] * 2
    assert watched([0.2] * 3 + [0.0] * 4) == [1] * 5 + [2] * 2
    assert watched([0.8] * 3 + [0.0] * 7) == [1] * 8 + [2] * 2
    assert watched([0.9] * 9) == [1] * 9
    # Short in the first window and, by no more than may be a chance rise, not in the second.
    assert watched([0.25] * 3 + [0.33] * 3, noise=0.1) == [1] * 6
    assert watched([0.20] * 3 + [0.25] * 3, noise=0.1) == [1] * 5 + [2]


def test_agreement_that_rises_is_waited_for():
    assert watched([-0.5] * 3 + [0.0] * 3 + [0.15] * 3 + [0.6] * 6) == [1] * 15


def test_a_watch_comes_back_from_its_arrays():
    rng = np.random.default_rng(4)
    updates, labels = rng.normal(size=(9, 6, 50)), [0, 0, 0, 1, 1, 1]
    for stop in range(1, 9):
        straight, resumed = AgreementWatch(2, 3, 0.3), AgreementWatch(2, 3, 0.3)
        for each in updates[:stop]:
            straight.add(each, labels, [0, 0])
        resumed.recall(straight.arrays())
        for each in updates[stop:]:
            assert (
                straight.add(each, labels, [0, 0]).tolist()
                == resumed.add(each, labels, [0, 0]).tolist()
            )
        for key, values in straight.arrays().items():
            np.testing.assert_array_equal(values, resumed.arrays()[key])

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import norm
from scipy.stats import t as student

from feddag_flwr.clustering.agreement import Agreement, AgreementWatch, sharing_groups


def pulls(directions, labels, noise, rng, size=400):
    """Updates of clients: the direction of their cluster, and noise of their own."""
    return np.stack([directions[z] + noise * rng.normal(size=size) for z in labels])


def names(count, first=0):
    return [f"client-{number}" for number in range(first, first + count)]


def test_sums_by_hand():
    # Cluster 0: e1 and (e1 + e2) / sqrt 2, cosine 1 / sqrt 2; cluster 1: e2 alone.
    found = Agreement(2)
    found.add(["a", "b", "c"], np.array([[3.0, 0.0], [1.0, 1.0], [0.0, 0.5]]), [0, 0, 1])
    half = 1 / np.sqrt(2)
    assert found.clients == ["a", "b", "c"]
    np.testing.assert_allclose(found.sums, [[half, 0.0], [half, half], [half, 0.0]], atol=1e-7)
    assert found.pairs.tolist() == [[1, 1], [1, 1], [2, 0]]
    assert np.isnan(found.matrix()[0, 1])  # nobody to compare the only client of cluster 1 with
    found.add(["a", "c", "d"], np.array([[1.0, 0.0], [0.0, 1.0], [0.0, 2.0]]), [0, 1, 1])
    assert found.clients == ["a", "b", "c", "d"]
    assert found.pairs.tolist() == [[1, 3], [1, 1], [3, 1], [1, 1]]
    # m_00 = 1 / sqrt 2 over 2 pairs, m_01 = (1 / sqrt 2 + 0 + 0 + 0) / 4 pairs, m_11 = 1.
    expected = (half / 4) / np.sqrt(half)
    np.testing.assert_allclose(found.matrix(), [[1.0, expected], [expected, 1.0]], atol=1e-7)


def test_clusters_of_which_too_little_is_known():
    found = Agreement(2)
    assert found.untold().tolist() == [0, 1]
    found.add(["a", "b", "z"], np.ones((3, 2)), [0, 0, 1])
    assert found.untold().tolist() == [0, 1]  # one pair, and nothing to say how it varies
    found.add(["a", "c", "z"], np.ones((3, 2)), [0, 0, 1])
    assert found.untold().tolist() == [0, 1]  # a is in both pairs
    found.add(["b", "c", "z"], np.ones((3, 2)), [0, 0, 1])
    assert found.untold().tolist() == [1]


def test_a_cluster_whose_clients_do_not_agree_and_who_is_to_blame():
    found = Agreement(2)
    assert found.at_odds() == {}
    found.add(["a", "b", "c", "y", "z"], np.outer([1, 1, -1, 1, 1], [1.0, 2.0]), [0, 0, 0, 1, 1])
    assert found.at_odds() == {0: ["c"]}  # a and b agree with each other and not with c: mean -1/3
    found.add(["a", "b", "d"], np.ones((3, 2)), [0, 0, 0])
    assert found.at_odds() == {}  # four pairs of six agree


def mean_cosine(rounds, one, other, without=None):
    """Mean over the pairs of different clients of two clusters, by a plain loop."""
    cosines = []
    for clients, updates, labels in rounds:
        for i, j in itertools.permutations(range(len(clients)), 2):
            if (labels[i], labels[j]) == (one, other) and without not in (clients[i], clients[j]):
                lengths = np.linalg.norm(updates[i]) * np.linalg.norm(updates[j])
                cosines.append(updates[i] @ updates[j] / lengths)
    return np.mean(cosines) if cosines else np.nan


def gap(rounds, one, other, threshold, without=None):
    within = [mean_cosine(rounds, z, z, without) for z in (one, other)]
    if not min(within) > 0:
        return np.nan
    return mean_cosine(rounds, one, other, without) - threshold * np.sqrt(within[0] * within[1])


def jackknife(rounds, one, other, threshold):
    """Gap, its squared standard error by each of the two samples of clients, and their sizes."""
    shares, sizes = [], []
    for z in (one, other):
        its = {
            c
            for clients, _, labels in rounds
            for c, label in zip(clients, labels, strict=True)
            if label == z
        }
        without = [gap(rounds, one, other, threshold, client) for client in sorted(its)]
        # (n - 1) / n times the sum of squares about the mean.
        shares.append((len(its) - 1) * np.var(without) if its else np.nan)
        sizes.append(len(its))
    return gap(rounds, one, other, threshold), shares, sizes


@pytest.mark.filterwarnings("ignore:Degrees of freedom:RuntimeWarning")
@given(st.integers(0, 10_000), st.integers(1, 3), st.integers(3, 9))
def test_sums_errors_and_shortfall_are_those_of_plain_loops(seed, count, most):
    rng = np.random.default_rng(seed)
    homes = rng.integers(0, 3, size=12)
    found, rounds = Agreement(3), []
    for _ in range(count):
        chosen = rng.permutation(12)[:most]
        updates = rng.normal(size=(most, 4)) + 2 * np.eye(4)[homes[chosen]]
        rounds.append(([f"c{i}" for i in chosen], updates, homes[chosen].tolist()))
        found.add(*rounds[-1])
    threshold = 0.9
    matrix, short = found.matrix(), found.shortfall(threshold)
    error, freedom = found._error(threshold)
    for one, other in itertools.permutations(range(3), 2):
        within = [mean_cosine(rounds, z, z) for z in (one, other)]
        told = min(within) > 0
        expected = mean_cosine(rounds, one, other) / np.sqrt(np.prod(within)) if told else np.nan
        np.testing.assert_allclose(matrix[one, other], expected, rtol=1e-5, atol=1e-6)
        middle, shares, sizes = jackknife(rounds, one, other, threshold)
        np.testing.assert_allclose(error[one, other], np.sqrt(sum(shares)), rtol=1e-4, atol=1e-6)
        if not np.isfinite(sum(shares)) or sum(shares) < 1e-9:
            continue
        welch = sum(shares) ** 2 / sum(v**2 / (n - 1) for v, n in zip(shares, sizes, strict=True))
        np.testing.assert_allclose(freedom[one, other], welch, rtol=1e-3)
        bound = middle + student.ppf(norm.cdf(3), welch) * np.sqrt(sum(shares))
        if abs(bound) > 1e-4:
            assert short[one, other] == (bound < 0)


def test_a_cosine_is_the_same_in_whatever_order_it_is_added_up():
    """So that it depends neither on a BLAS nor on its threads."""
    rng = np.random.default_rng(6)
    updates = rng.integers(-50, 50, size=(30, 5000)).astype(
        np.float32
    )  # lengths exact in any order
    found = []
    for order in (np.arange(5000), np.arange(5000)[::-1], rng.permutation(5000)):
        agreement = Agreement(1)
        agreement.add(names(30), updates[:, order], [0] * 30)
        found.append(agreement.sums)
    assert (found[0] == found[1]).all()
    assert (found[0] == found[2]).all()


def test_noise_of_the_clients_does_not_lower_the_agreement():
    rng = np.random.default_rng(0)
    one, other = rng.normal(size=(2, 400))
    labels = [0] * 30 + [1] * 30 + [2] * 30
    directions = [one, 0.6 * one + 0.8 * other, other]
    for noise in (0.1, 2.0, 4.0):
        found = Agreement(3)
        for _ in range(5):
            found.add(names(90), pulls(directions, labels, noise, rng), labels)
        assert found.matrix()[0, 1] == pytest.approx(0.6, abs=0.15)
        assert found.matrix()[0, 2] == pytest.approx(0.0, abs=0.15)


def test_an_update_without_direction_does_not_count():
    found = Agreement(1)
    updates = np.array([[0.0, 0.0], [1.0, 0.0], [np.inf, 0.0], [1.0, 1.0]])
    found.add(["a", "b", "c", "d"], updates, [0, 0, 0, 0])
    assert found.clients == ["b", "d"]
    assert found.pairs.tolist() == [[1], [1]]
    np.testing.assert_allclose(found.sums, [[1 / np.sqrt(2)]] * 2, atol=1e-7)
    assert found.rounds == 1
    empty = Agreement(1)
    empty.add(["a", "b"], np.zeros((2, 3)), [0, 0])
    assert empty.pairs.shape == (0, 1)
    assert empty.untold().tolist() == [0]
    assert not empty.shortfall(0.3).any()


def test_a_client_that_has_moved_to_another_cluster_counts_as_another():
    found = Agreement(2)
    found.add(["a", "b"], np.array([[1.0, 0.0], [1.0, 0.0]]), [0, 0])
    found.add(["a", "b"], np.array([[0.0, 1.0], [1.0, 0.0]]), [1, 0])
    assert (found.clients, found.labels.tolist()) == (["a", "b", "a"], [0, 0, 1])
    assert found.pairs.tolist() == [[1, 0], [1, 1], [1, 0]]


def test_a_shortfall_must_be_certain():
    rng = np.random.default_rng(1)
    one, other = rng.normal(size=(2, 400))
    few, many = [0, 0, 0, 1, 1, 1], [0] * 40 + [1] * 40
    for labels, noise, short in ((many, 1.0, True), (few, 6.0, False)):
        found = Agreement(2)
        found.add(names(len(labels)), pulls([one, other], labels, noise, rng), labels)
        assert found.shortfall(0.3).tolist() == [[False, short], [short, False]]
    agreeing = Agreement(2)
    agreeing.add(names(80), pulls([one, one], many, 1.0, rng), many)
    assert not agreeing.shortfall(0.3).any()


def test_clusters_whose_clients_agree_less_by_far_do_not_fall_short_for_that():
    # Clients of cluster 0 agree by 0.9 or so, of cluster 1 by 0.02: all pull the same way.
    rng = np.random.default_rng(5)
    common, labels = rng.normal(size=2000), [0] * 10 + [1] * 40
    found = Agreement(2)
    for _ in range(8):
        noise = np.array([0.3] * 10 + [7.0] * 40)[:, None] * rng.normal(size=(50, 2000))
        found.add(names(50), common + noise, labels)
    within = np.diag(found._means())
    assert within[0] > 40 * within[1] > 0
    assert found.matrix()[0, 1] == pytest.approx(1.0, abs=0.05)
    assert not found.shortfall(0.8).any()


def basis_at(cosine, first):
    """Three vectors, each two of which have the cosine, in their own four dimensions of eight."""
    common, own = np.sqrt(cosine), np.sqrt(1 - cosine)
    found = np.zeros((3, 8))
    found[:, first] = common
    found[np.arange(3), first + 1 + np.arange(3)] = own
    return found


def test_two_clients_of_a_cluster_tell_no_error():
    # Clients of a cluster agree by 0.9 and none with the other's, in every round. Without one of
    # two clients there is no pair left, and nothing to say by how much the agreement varies.
    updates = np.vstack([basis_at(0.9, 0), basis_at(0.9, 4)])
    two = [0, 1, 3, 4]
    few, enough = Agreement(2), Agreement(2)
    for _ in range(9):
        few.add(names(4), updates[two], [0, 0, 1, 1])
        enough.add(names(6), updates, [0, 0, 0, 1, 1, 1])
    assert not few.shortfall(0.3).any()
    assert enough.shortfall(0.3).tolist() == [[False, True], [True, False]]


@pytest.mark.parametrize(("clients", "share"), [(3, 1.0), (5, 1.0), (12, 0.5), (30, 0.2)])
def test_chance_parts_nobody(clients, share):
    """Clients that pull one way but for a lasting leaning of their own, and noise.

    The leaning is what makes the cosines of a client alike in all rounds: with each cosine for an
    observation of its own, few clients who all take part seem to tell far more than they do.
    """
    rng = np.random.default_rng(2)
    labels = np.repeat([0, 1], clients)
    parted = 0
    for _ in range(60):
        # Two directions whose cosine is the threshold.
        one, other = np.linalg.qr(rng.normal(size=(30, 2)))[0].T * np.sqrt(30)
        directions = np.stack([one, 0.5 * one + np.sqrt(0.75) * other])
        leaning = 1.2 * rng.normal(size=(len(labels), 30))
        found = Agreement(2)
        for _ in range(8):
            chosen = np.flatnonzero(rng.random(len(labels)) < share)
            noise = 0.3 * rng.normal(size=(len(chosen), 30))
            updates = directions[labels[chosen]] + leaning[chosen] + noise
            found.add([f"c{i}" for i in chosen], updates, labels[chosen])
        parted += found.shortfall(0.5).any()
    assert parted <= 1


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
    agreement = np.full(matrix.shape, 0.5)  # of all that do not fall short
    assert sharing_groups(matrix, agreement, groups).tolist() == expected


@pytest.mark.parametrize("order", [[0, 1, 2, 3], [1, 0, 2, 3], [3, 0, 1, 2], [3, 2, 1, 0]])
@pytest.mark.parametrize("unknown", [-0.2, np.nan])
def test_a_cluster_stays_with_those_it_agrees_with_whatever_its_number(order, unknown):
    """The first is at odds with the last two; the second falls short of nobody for certain."""
    agreement = np.array(
        [
            [1.0, unknown, -0.1, -0.1],
            [unknown, 1.0, 0.9, 0.8],
            [-0.1, 0.9, 1.0, 0.9],
            [-0.1, 0.8, 0.9, 1.0],
        ]
    )
    apart = np.zeros((4, 4), bool)
    apart[0, 2:] = apart[2:, 0] = True
    moved = np.ix_(order, order)
    found = sharing_groups(apart[moved], agreement[moved], [0] * 4)
    role = {each: int(found[place]) for place, each in enumerate(order)}
    assert role[1] == role[2] == role[3] != role[0]


def test_those_that_fall_short_part_however_well_others_agree():
    agreement = np.array([[1.0, 2.5, 0.4], [2.5, 1.0, 1.5], [0.4, 1.5, 1.0]])
    apart = np.zeros((3, 3), bool)
    apart[0, 2] = apart[2, 0] = True
    assert sharing_groups(apart, agreement, [0, 0, 0]).tolist() == [0, 0, 1]
    against = np.full((3, 3), -1.0)  # certain of nothing: together
    assert sharing_groups(apart & False, against, [0, 0, 0]).tolist() == [0, 0, 0]


def watched(course, window=3, noise=1.0):
    """Groups after each round, where the two clusters' directions have the cosines of `course`."""
    rng = np.random.default_rng(3)
    basis = np.linalg.qr(rng.normal(size=(400, 2)))[0].T * 20
    labels, groups, found = [0] * 12 + [1] * 12, [0, 0], []
    watch = AgreementWatch(2, window, 0.3)
    for cosine in course:
        other = cosine * basis[0] + np.sqrt(1 - cosine**2) * basis[1]
        groups = watch.add(names(24), pulls([basis[0], other], labels, noise, rng), labels, groups)
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


def test_a_watch_comes_back_from_what_it_kept():
    rng = np.random.default_rng(4)
    updates, labels = rng.normal(size=(9, 6, 50)), [0, 0, 0, 1, 1, 1]
    for stop in range(1, 9):
        straight, resumed = AgreementWatch(2, 3, 0.3), AgreementWatch(2, 3, 0.3)
        for number, each in enumerate(updates[:stop]):
            straight.add(names(6, number), each, labels, [0, 0])
        resumed.load_state_dict(straight.arrays(), straight.clients())
        assert resumed.at_end_of_window == straight.at_end_of_window == (stop % 3 == 0)
        for number, each in enumerate(updates[stop:]):
            given = names(6, number), each, labels, [0, 0]
            assert straight.add(*given).tolist() == resumed.add(*given).tolist()
        assert straight.clients() == resumed.clients()
        for key, values in straight.arrays().items():
            np.testing.assert_array_equal(values, resumed.arrays()[key])

"""Rows of G, V and A of clients that come after the clustering (Algorithm 4)."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit, softmax
from scipy.stats import entropy

from feddag_flwr.similarity.class_subspaces import ClassSubspaces
from feddag_flwr.similarity.fusion import (
    entropy_gradient,
    fuse,
    learn_newcomer_weights,
)
from feddag_flwr.similarity.gradient import gradient_dissimilarity, gradient_dissimilarity_to
from feddag_flwr.similarity.newcomers import ProfileArrays, measure_newcomers
from feddag_flwr.similarity.proximity import measure_proximity
from feddag_flwr.similarity.subspace import (
    class_angles,
    class_angles_to,
    data_dissimilarity_to,
)

pytestmark = pytest.mark.filterwarnings("error::RuntimeWarning")

seeds = st.integers(0, 2**32 - 1)
quick = settings(max_examples=20, deadline=None)

OPTIONS = {
    "angle": "vectors",
    "weight_delta": 0.6,
    "weight_scope": "shared",
    "fusion": "entropy",
    "fusion_steps": 30,
    "false_positive_rate": 0.01,
}


def random_clients(rng, clients, classes=3, p=2, d=6):
    """Updates, orthonormal bases, some shorter than p, and counts, some zero."""
    bases = np.zeros((clients, classes, p, d), dtype=np.float32)
    counts = rng.integers(1, 40, (clients, classes)) * (rng.random((clients, classes)) < 0.7)
    for i, c in zip(*np.nonzero(counts), strict=True):
        rank = min(p, counts[i, c])
        bases[i, c, :rank] = np.linalg.qr(rng.standard_normal((d, rank)))[0].T
    return rng.standard_normal((clients, 9)).astype(np.float32), bases, counts


def unit_dissimilarity(rng, clients):
    matrix = np.triu(rng.random((clients, clients)), 1)
    return matrix + matrix.T


def names(count):
    return [f"client-{i}" for i in range(count)]


# -- G and V ---------------------------------------------------------------------------------------


def test_gradient_rows_by_hand():
    found = gradient_dissimilarity_to([[1, 1], [-3, 0]], [[2, 0], [0, 5], [1, 1]])
    np.testing.assert_allclose(found, [[45, 45, 0], [180, 90, 135]], atol=2e-6)


@given(seeds, st.sampled_from(["vectors", "principal"]))
@quick
def test_rows_are_those_that_the_newcomers_would_have_had(seed, angle):
    rng = np.random.default_rng(seed)
    updates, bases, counts = random_clients(rng, 7)
    late, early = slice(0, 2), slice(2, None)
    np.testing.assert_allclose(
        gradient_dissimilarity_to(updates[late], updates[early]),
        gradient_dissimilarity(updates)[late, early],
        atol=1e-9,
    )
    found = class_angles_to(bases[late], counts[late], bases[early], counts[early], angle)
    np.testing.assert_allclose(found, class_angles(bases, counts, angle)[:, late, early], atol=1e-4)


def test_newcomers_may_have_fewer_vectors_a_class():
    _, bases, counts = random_clients(np.random.default_rng(0), 5, p=3)
    bases[0, :, 1:] = 0.0
    for angle in ("vectors", "principal"):
        narrow = class_angles_to(bases[:1, :, :1], counts[:1], bases[1:], counts[1:], angle)
        wide = class_angles_to(bases[:1], counts[:1], bases[1:], counts[1:], angle)
        np.testing.assert_allclose(narrow, wide, atol=1e-5)


def test_data_rows_by_hand():
    # Counts of two clients in class 0: 1 and 10; in class 1: 5 and 5. Ratios: the widest and 1.
    counts = np.array([[1, 5], [10, 5]])
    low, high = math.log(1 + math.e), math.log(10 + math.e)
    angles = np.array([[[20.0, 40.0]], [[60.0, 80.0]]], dtype=np.float32)
    # A newcomer with 3 and 5: in class 0 the ratios lie between 1 and high / low.
    middle = math.log(3 + math.e)
    share = [(middle / low - 1) / (high / low - 1), (high / middle - 1) / (high / low - 1)]
    expected = [
        (20 * (1 + 0.6 * share[0]) + 60) / 2,
        (40 * (1 + 0.6 * share[1]) + 80) / 2,
    ]
    found = data_dissimilarity_to(angles, [[3, 5]], counts, 0.6)
    np.testing.assert_allclose(found, [expected], rtol=1e-6)


def test_a_ratio_outside_the_clients_range_counts_as_its_end():
    counts = np.array([[10, 8], [12, 9]])
    angles = np.full((2, 1, 2), 50.0, dtype=np.float32)
    # 10000 against 10 or 12 is wider than any ratio among the clients: weight 1.6 in class 0;
    # class 1 is not shared: weight 1.
    found = data_dissimilarity_to(angles, [[10_000, 0]], counts, 0.6)
    np.testing.assert_allclose(found, [[(50 * 1.6 + 50) / 2] * 2])
    # The paper's text, range [0.4, 1.6]: class 1 is weighed too, ln(8 + e) / ln(0 + e) is wide.
    found = data_dissimilarity_to(angles, [[10_000, 0]], counts, 0.6, "all")
    np.testing.assert_allclose(found, [[50 * 1.6] * 2])


@given(seeds, st.sampled_from(["shared", "all"]))
@quick
def test_weights_use_the_clients_minimum_and_maximum(seed, scope):
    """The newcomer's weights, pair by pair, with the range of the clients' own ratios."""
    rng = np.random.default_rng(seed)
    _, _, counts = random_clients(rng, 6)
    counts[0] = [3, 7, 0]
    ratios = []
    for i in range(6):
        for j in range(i + 1, 6):
            for c in range(3):
                if scope == "all" or (counts[i, c] and counts[j, c]):
                    one, two = math.log(counts[i, c] + math.e), math.log(counts[j, c] + math.e)
                    ratios.append(max(one, two) / min(one, two))
    newcomer = np.array([[4, 0, 11]])
    base, width = (1.0, 0.5) if scope == "shared" else (0.5, 1.0)
    expected = np.zeros(6)
    for j in range(6):
        for c in range(3):
            weight = 1.0
            if scope == "all" or (newcomer[0, c] and counts[j, c]):
                one, two = math.log(newcomer[0, c] + math.e), math.log(counts[j, c] + math.e)
                share = (max(one, two) / min(one, two) - min(ratios)) / (max(ratios) - min(ratios))
                weight = base + width * min(max(share, 0.0), 1.0)
            expected[j] += weight * 30.0 / 3
    angles = np.full((3, 1, 6), 30.0, dtype=np.float32)
    np.testing.assert_allclose(
        data_dissimilarity_to(angles, newcomer, counts, 0.5, scope), [expected], rtol=1e-9
    )


def test_clients_of_equal_counts_leave_the_weights_at_one():
    angles = np.full((1, 1, 2), 30.0, dtype=np.float32)
    assert data_dissimilarity_to(angles, [[9]], [[5], [5]], 0.6).tolist() == [[30.0, 30.0]]


# -- the weight ------------------------------------------------------------------------------------


def augmented(gradient, data, fused, weight):
    """A with the newcomer as first client, from its rows of G and V."""
    matrix = np.zeros((len(fused) + 1, len(fused) + 1))
    matrix[1:, 1:] = fused
    matrix[0, 1:] = matrix[1:, 0] = weight * gradient + (1 - weight) * data
    return matrix


@given(seeds, st.integers(1, 8), st.integers(0, 12))
@quick
def test_the_weight_descends_the_entropy_of_the_matrix_with_the_newcomer_in_it(seed, n, steps):
    """O(N) a step finds what the whole matrix would, with all other weights held."""
    rng = np.random.default_rng(seed)
    gradient, data = unit_dissimilarity(rng, n + 1), unit_dissimilarity(rng, n + 1)
    weights = rng.random(n + 1)
    fused = fuse(gradient[1:, 1:], data[1:, 1:], weights[1:])
    logit = 0.0
    for _ in range(steps):
        weights[0] = expit(logit)
        slope = entropy_gradient(gradient, data, weights)
        logit -= 10.0 * (n + 1) * slope[0] * weights[0] * (1 - weights[0])
    found = learn_newcomer_weights(gradient[:1, 1:], data[:1, 1:], fused, steps=steps)
    np.testing.assert_allclose(found, [expit(logit)], rtol=1e-9)


def test_the_slope_is_that_of_the_entropy():
    """One small step from w = 0.5 against the difference quotient of Eq. 8."""
    rng = np.random.default_rng(5)
    gradient, data = rng.random(6), rng.random(6)
    fused = unit_dissimilarity(rng, 6)
    low, high = (
        entropy(softmax(augmented(gradient, data, fused, w), axis=1), axis=1).sum()
        for w in (0.5 - 1e-5, 0.5 + 1e-5)
    )
    found = learn_newcomer_weights(gradient[None], data[None], fused, steps=1)
    slope = (high - low) / 2e-5
    assert math.log(found[0] / (1 - found[0])) == pytest.approx(-10 * slope / 4, rel=1e-5)


def test_the_weight_goes_to_the_view_that_tells_clients_apart():
    fused = unit_dissimilarity(np.random.default_rng(0), 6)
    clear, blurred = np.array([0.0, 0.0, 0.0, 1.0, 1.0, 1.0]), np.full(6, 0.5)
    pair = np.stack([clear, blurred])
    towards, away = learn_newcomer_weights(pair, pair[::-1], fused)
    assert towards > 0.9
    assert away < 0.1
    assert learn_newcomer_weights(pair[:1], pair[1:], fused, steps=0).tolist() == [0.5]


def test_newcomers_do_not_see_each_other():
    rng = np.random.default_rng(1)
    gradient, data, fused = rng.random((3, 5)), rng.random((3, 5)), unit_dissimilarity(rng, 5)
    together = learn_newcomer_weights(gradient, data, fused)
    apart = [learn_newcomer_weights(gradient[[i]], data[[i]], fused)[0] for i in range(3)]
    np.testing.assert_allclose(together, apart, rtol=1e-12)


# -- all together ----------------------------------------------------------------------------------


def planted(rng, groups=3, members=4):
    """Clients of well separated groups: updates along axes, one class a group."""
    labels = np.repeat(np.arange(groups), members)
    updates = np.eye(groups)[labels] + 0.05 * rng.standard_normal((len(labels), groups))
    counts = np.zeros((len(labels), groups), dtype=np.int64)
    bases = np.zeros((len(labels), groups, 1, 5), dtype=np.float32)
    for i, g in enumerate(labels):
        counts[i, g] = rng.integers(5, 30)
        vector = np.eye(5)[g] + 0.05 * rng.standard_normal(5)
        bases[i, g, 0] = vector / np.linalg.norm(vector)
    return updates, bases, counts, labels


@pytest.mark.parametrize("fusion", ["entropy", "data", "gradient"])
def test_a_copy_of_a_client_has_that_clients_row(fusion):
    updates, bases, counts, labels = planted(np.random.default_rng(2))
    options = OPTIONS | {"fusion": fusion}
    proximity = measure_proximity(
        updates, ClassSubspaces(bases, counts, options["angle"]), names=names(12), **options
    )
    residents = ProfileArrays.of(updates, bases, counts, proximity)
    for client in (0, 5, 11):
        one = slice(client, client + 1)
        rows = measure_newcomers(
            residents, updates[one], bases[one], counts[one], names=["late"], **options
        )
        np.testing.assert_allclose(rows.gradient[0], proximity.gradient[client], atol=2e-6)
        if fusion == "gradient":
            assert rows.data is proximity.data is residents.data is None
        else:
            np.testing.assert_allclose(rows.data[0], proximity.data[client], atol=2e-6)
        assert rows.fused[0, client] == 0.0  # below the clients' minimum: clipped
        if fusion != "entropy":
            np.testing.assert_allclose(rows.fused[0], proximity.fused[client], atol=1e-7)
        near = labels == labels[client]
        assert rows.fused[0, near].max() < rows.fused[0, ~near].min()


def test_values_beyond_the_clients_range_are_clipped():
    updates, bases, counts, _ = planted(np.random.default_rng(3))
    options = OPTIONS | {"fusion": "gradient"}
    proximity = measure_proximity(
        updates, ClassSubspaces(bases, counts, options["angle"]), names=names(12), **options
    )
    residents = ProfileArrays.of(updates, bases, counts, proximity)
    opposite = measure_newcomers(
        residents, -updates[:1], bases[:1], counts[:1], names=["late"], **options
    )
    assert opposite.gradient[0, 0] == pytest.approx(180.0)
    assert opposite.fused[0, 0] == 1.0
    assert opposite.weights.tolist() == [1.0]


# -- what is refused -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: gradient_dissimilarity_to([[0.0, 0.0]], [[1, 0]], ["ward-3"]), "client ward-3"),
        (lambda: gradient_dissimilarity_to([[1.0]], [[1, 0]]), r"got \(1, 1\) and \(1, 2\)"),
        (
            lambda: class_angles_to(np.ones((1, 1, 1, 2)), [[1]], np.ones((1, 1, 1, 3)), [[1]]),
            "same C and d",
        ),
        (
            lambda: class_angles_to(np.ones((1, 1, 2, 2)), [[1]], np.ones((1, 1, 1, 2)), [[1]],
                                    "principal"),
            "not orthonormal",
        ),
        (lambda: data_dissimilarity_to(np.ones((1, 1, 1)), [[1, 1]], [[1, 1]]), "angles must have"),
        (lambda: data_dissimilarity_to(np.ones((2, 1, 1)), [[1]], [[1, 1]]), "angles must have"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()

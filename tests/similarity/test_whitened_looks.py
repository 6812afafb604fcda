"""Products in units of the covariance, against covariances that are made and inverted in full."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from looks import bases_of

from feddag_flwr.similarity.whitened_looks import SPHERE, WhitenedLooks

seeds = st.integers(0, 2**32 - 1)
some = settings(max_examples=15)


def made(seed, number=7, classes=3, features=6):
    """Bases and samples; client 0 lacks class 1, class 2 has two holders at least."""
    rng = np.random.default_rng(seed)
    counts = rng.integers(1, 30, (number, classes)) * (rng.random((number, classes)) < 0.8)
    counts[0, 1], counts[:, 0], counts[:2, 2] = 0, rng.integers(1, 9, number), 4
    groups = np.zeros(number, dtype=int)
    return bases_of(groups, counts, rng, features=features), counts


def without(vectors, counts, left_out):
    """Means (C, d) and covariance (d, d), of which the vectors (class, row) are left out.

    The sphere and the number of vectors stay those of all.
    """
    _, classes, features = vectors.shape
    weights = counts.astype(float)
    means = np.zeros((classes, features))
    scatter, of_all = np.zeros((features, features)), 0.0
    for label in range(classes):
        for leaving in (True, False):
            kept = weights[:, label].copy()
            if leaving and label in left_out:
                kept[left_out[label]] = 0.0
            if not kept.any():
                continue
            mean = kept @ vectors[:, label] / kept.sum()
            rest = vectors[:, label] - mean
            if leaving:
                means[label] = mean
                scatter += (kept[:, None] * rest).T @ rest
            else:
                of_all += float(kept @ np.square(rest).sum(axis=1))
    freedom = np.count_nonzero(counts) - np.count_nonzero(counts.sum(axis=0))
    sphere = SPHERE * of_all / freedom / features * np.eye(features)
    return means, (1 - SPHERE) * scatter / freedom + sphere


def turned(bases, counts):
    """Leading vectors to the side of the first holder's, 0 where a class is not held."""
    vectors = bases[:, :, 0].astype(float) * (counts > 0)[:, :, None]
    for label in range(counts.shape[1]):
        first = vectors[np.flatnonzero(counts[:, label])[0], label]
        vectors[:, label] *= np.sign(vectors[:, label] @ first)[:, None]
    return vectors


@given(seeds, st.booleans())
@some
def test_densities_are_those_without_the_vectors_themselves(seed, dealt):
    bases, counts = made(seed)
    number, classes = counts.shape
    looks, vectors = WhitenedLooks.of(bases, counts), turned(bases, counts)
    rng = np.random.default_rng(seed)
    own = np.array([rng.permutation(number) if dealt else np.arange(number)] * classes)
    if dealt:
        own = rng.permuted(own, axis=1)
    found, usable = looks.log_densities(own)
    for client in range(number):
        held = [
            label
            for label in range(classes)
            if counts[own[label, client], label]
            and counts[:, label].sum() > counts[own[label, client], label]
        ]
        assert np.flatnonzero(usable[client]).tolist() == held
        means, covariance = without(vectors, counts, {k: own[k, client] for k in held})
        for one in held:
            vector, samples = vectors[own[one, client], one], counts[own[one, client], one]
            densities = []
            for k in held:
                side = np.sign(vector @ (counts[:, k] @ vectors[:, k]))
                away = side * vector - means[k]
                densities.append(-samples / 2 * away @ np.linalg.solve(covariance, away))
            expected = np.array(densities) - densities[0]
            of_client = found[client, one][held]
            np.testing.assert_allclose(of_client - of_client[0], expected, rtol=1e-4, atol=1e-3)


@given(seeds)
@some
def test_distances_are_those_from_the_others(seed):
    bases, counts = made(seed)
    looks, vectors = WhitenedLooks.of(bases, counts), turned(bases, counts)
    found, totals = looks.distances(), counts.sum(axis=0)
    for client, label in np.ndindex(counts.shape):
        samples = counts[client, label]
        if samples == 0 or samples == totals[label]:
            assert found[label, client] == 0.0
            continue
        means, covariance = without(vectors, counts, {label: client})
        # The vector's share of the scatter is that of w (W - w) / W of squared deviations.
        away = vectors[client, label] - means[label]
        factor = samples * (totals[label] - samples) / totals[label]
        expected = factor * away @ np.linalg.solve(covariance, away)
        assert found[label, client] == pytest.approx(expected, rel=1e-4)


@given(seeds)
@some
def test_some_clients_are_compared_as_among_all(seed):
    bases, counts = made(seed)
    looks, rows = WhitenedLooks.of(bases, counts), np.array([1, 4, 6])
    own = np.tile(np.arange(7), (3, 1))
    expected, usable = looks.log_densities(own)
    found, found_usable = looks.only(rows).log_densities(np.tile(np.arange(3), (3, 1)))
    np.testing.assert_allclose(found, expected[rows])
    np.testing.assert_array_equal(found_usable, usable[rows])


def test_equal_vectors_have_no_covariance():
    bases = np.tile(np.eye(3, 5)[:, None].astype(np.float32), (12, 1, 1, 1))
    assert WhitenedLooks.of(bases, np.full((12, 3), 9)) is None
    assert WhitenedLooks.of(bases, np.zeros((12, 3), dtype=int)) is None
    assert WhitenedLooks.of(bases[:1], np.ones((1, 3), dtype=int)) is None

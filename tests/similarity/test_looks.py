"""Whether classes look as they did: chance is chance, and change is told."""

import numpy as np
import pytest
from scipy.stats import f as f_distribution
from scipy.stats import t as t_distribution

from feddag_flwr.similarity.looks import (
    PROJECTIONS,
    Difference,
    Looks,
    _chance,
    _whitening,
    features_of,
    looks_size,
)

CLASSES, SIDE = 3, 8


def draw(rng, size=90, twist=lambda images: images):
    """Images of classes with a bright quarter each, as features, and their labels."""
    labels = np.sort(rng.integers(0, CLASSES, size))
    images = rng.random((size, SIDE, SIDE)) * rng.random((size, 1, 1))
    for label in range(CLASSES):
        images[labels == label, 2 * label : 2 * label + 2, :3] += 0.5
    matrix = twist(images).reshape(size, -1)
    return features_of(matrix, (1, SIDE, SIDE), np.random.default_rng(7)), labels


def looks(rng):
    return Looks.of(*draw(rng), CLASSES)


def test_features_are_projections_and_energies():
    rows = np.array([[3.0, 4.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0]])
    found = features_of(rows, (4,), np.random.default_rng(7))
    axes = np.random.default_rng(7).standard_normal((PROJECTIONS, 4))
    axes /= np.linalg.norm(axes, axis=1, keepdims=True)
    np.testing.assert_allclose(found[:, :PROJECTIONS], rows @ axes.T)
    # Mean squares (9 + 16) / 4, and of the steps 1, -4, 0: (1 + 16) / 4. No columns: no ratio.
    np.testing.assert_allclose(found[:, PROJECTIONS:], [[2.5, np.sqrt(17) / 2, 0], [0, 0, 0]])


def test_features_of_images_know_rows_from_columns():
    image = np.array([[1.0, 2.0], [4.0, 8.0]])
    found = features_of(image.reshape(1, 4), (1, 2, 2), np.random.default_rng(7))[0]
    walk = np.random.default_rng(7).standard_normal((PROJECTIONS, 2, 2))
    # A walk's value is the sum of all steps above and to the left.
    axes = np.array([[a, a + b, a + c, a + b + c + d] for (a, b), (c, d) in walk.tolist()])
    axes /= np.linalg.norm(axes, axis=1, keepdims=True)
    np.testing.assert_allclose(found[:PROJECTIONS], axes @ image.ravel())
    # Steps along rows 1 and 4, along columns 3 and 6.
    energies = [np.sqrt(85 / 4), np.sqrt(17 / 4), np.log(np.sqrt(17 / 45))]
    np.testing.assert_allclose(found[PROJECTIONS:], energies)
    turned = features_of(image.T.reshape(1, 4), (1, 2, 2), np.random.default_rng(7))[0]
    np.testing.assert_allclose(turned[-1], -found[-1])


def test_looks_go_through_a_row_of_numbers():
    one = looks(np.random.default_rng(1))
    row = one.numbers()
    assert row.shape == (looks_size(CLASSES),) == (CLASSES * 39 + 32**2,)
    two = Looks.of_numbers(row.tolist(), CLASSES)
    for name, values in vars(one).items():
        np.testing.assert_array_equal(getattr(two, name), values)
    with pytest.raises(ValueError, match="looks of 4 classes are"):
        Looks.of_numbers(row, 4)


def test_equal_data_is_no_change_and_classes_kept_back_are_not_looked_at():
    features, labels = draw(np.random.default_rng(2))
    assert Looks.of(features, labels, CLASSES).chance_of(features, labels) == 1.0
    least = int(np.bincount(labels).max()) + 1
    back = Looks.of(features, labels, CLASSES, least)
    assert not back.samples.any()
    assert not back.means.any()
    assert back.chance_of(9 * features, labels) == 1.0


@pytest.mark.parametrize(("then", "now"), [(40, 40), (19, 5), (5, 60)])
def test_one_class_and_one_energy_make_a_t_test_with_the_larger_variance(then, now):
    rng = np.random.default_rng(3)
    before, after = 3.0 * rng.standard_normal(then), rng.standard_normal(now) + 9.0
    moved = float(after.mean() - before.mean())
    variances = float(before.var(ddof=1)), float(after.var(ddof=1))
    found = _chance([Difference.of_one(moved, variances, (then, now))])
    error = variances[0] * (1 / then + 1 / now)
    expected = 2 * t_distribution.sf(abs(moved) / np.sqrt(error), then - 1)
    assert found == pytest.approx(expected, rel=1e-9)
    again = _chance([Difference.of_one(moved, variances[::-1], (now, then))])
    assert again == pytest.approx(expected, rel=1e-9)


def test_one_class_and_one_projection_spread_as_now():
    rng = np.random.default_rng(3)
    now = rng.standard_t(3, (40, 1))
    # Q / E = m delta^2 / s^2 is Student's t squared; its freedom comes from the fourth moment.
    squares, variance = np.square(now - now.mean()), now.var(ddof=1)
    freedom = 2 * variance**2 / (squares.var(ddof=1) / 40)
    assert freedom < 39.0
    expected = f_distribution.sf(20 * 0.36 / variance, 1, freedom)
    found = _chance([Difference.of_many(np.array([0.6]), now, 20.0)])
    assert found == pytest.approx(expected, rel=1e-9)


def test_few_equally_far_samples_are_not_taken_for_certain():
    now = np.array([[1.0], [-1.0], [1.0], [-1.0], [1.0], [-1.0]])  # all squares are alike
    found = _chance([Difference.of_many(np.array([3.0]), now, 6.0)])
    expected = f_distribution.sf(6.0 * 9.0 / now.var(ddof=1), 1, 5)
    assert found == pytest.approx(expected, rel=1e-9)


def test_without_any_spread_a_change_is_certain():
    same = np.ones((9, 2))
    assert _chance([Difference.of_many(np.zeros(2), same, 4.5)]) == 1.0
    assert _chance([Difference.of_many(np.ones(2), same, 4.5)]) == 0.0
    assert _chance([Difference.of_one(1.0, (0.0, 0.0), (9, 9))]) == 0.0


def test_whitening_makes_projections_uncorrelated():
    rng = np.random.default_rng(4)
    mixed = rng.standard_normal((50_000, 3)) @ np.array([[5, 0, 0], [2, 1, 0], [0, 0.5, 0.1]])
    white = mixed @ _whitening(mixed).T
    np.testing.assert_allclose(white.T @ white / len(white), np.eye(3), atol=0.02)
    assert np.isfinite(_whitening(np.zeros((4, 3)))).all()
    assert np.isfinite(_whitening(np.zeros((0, 3)))).all()


def test_samples_drawn_anew_come_below_a_level_no_more_often_than_it_says():
    rng = np.random.default_rng(5)
    chances = np.array([looks(rng).chance_of(*draw(rng, 60)) for _ in range(300)])
    # 300 draws: three standard deviations above the level.
    for level in (0.01, 0.05, 0.2):
        assert np.mean(chances <= level) <= level + 3 * np.sqrt(level * (1 - level) / 300)


@pytest.mark.parametrize(
    "twist",
    [
        lambda images: np.rot90(images, 1, (1, 2)),
        lambda images: np.rot90(images, 2, (1, 2)),
        lambda images: 1.5 - images,
        lambda images: images + np.random.default_rng(6).normal(0, 0.3, images.shape),
    ],
)
def test_turned_inverted_and_noisy_images_are_told(twist):
    rng = np.random.default_rng(8)
    assert max(looks(rng).chance_of(*draw(rng, 90, twist)) for _ in range(5)) < 1e-6


def test_other_counts_of_classes_are_no_change_of_looks():
    rng = np.random.default_rng(9)
    features, labels = draw(rng, 300)
    few = np.concatenate([np.flatnonzero(labels == label)[:size] for label, size in
                          ((0, 60), (1, 6), (2, 4))])  # fmt: skip
    assert looks(rng).chance_of(features[few], labels[few]) > 1e-3

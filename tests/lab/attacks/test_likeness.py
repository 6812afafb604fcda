"""PSNR, SSIM, cosines, AUC and true positives against numbers worked by hand."""

import numpy as np
import pytest
from scipy import stats

from feddag_lab.attacks.likeness import MOST_PSNR, cosines, fitted, matched, psnr, ssim
from feddag_lab.attacks.ranking import auc, class_weights, separation, true_positives

SHAPE = (1, 12, 12)


def flat(value):
    return np.full(144, value)


def test_psnr_of_a_tenth_is_twenty():
    assert psnr(flat(0.4), flat(0.5)) == pytest.approx(20)
    assert psnr(flat(0.49), flat(0.5)) == pytest.approx(40)
    assert psnr(flat(0.5), flat(0.5)) == MOST_PSNR


def test_ssim_of_flat_pictures_is_that_of_their_means():
    """Without variance SSIM is (2 a b + c1) / (a^2 + b^2 + c1), c1 = 0.01^2."""
    expected = (2 * 0.2 * 0.8 + 1e-4) / (0.2**2 + 0.8**2 + 1e-4)
    assert ssim(flat(0.2), flat(0.8), SHAPE) == pytest.approx(expected, abs=1e-6)


def test_ssim_of_an_image_with_itself_is_one_and_with_its_negative_below_zero():
    image = np.random.default_rng(0).random(144)
    assert ssim(image, image, SHAPE) == pytest.approx(1, abs=1e-6)
    assert ssim(1 - image, image, SHAPE) < 0


def test_cosines_do_not_depend_on_sign_and_length():
    rows = np.array([[3.0, 4.0], [-6.0, -8.0], [4.0, -3.0]])
    np.testing.assert_allclose(cosines(rows, rows[:1])[:, 0], [1, 1, 0], atol=1e-12)


def test_a_vector_is_shown_at_the_brightness_that_suits():
    image = np.random.default_rng(1).random(144)
    np.testing.assert_allclose(fitted(-0.1 * image + 2, image), image, atol=1e-9)


def test_pictures_are_matched_each_with_one_of_its_own():
    images = np.array([[0.0], [1.0], [0.6]])
    np.testing.assert_array_equal(matched(np.array([[0.9], [0.5], [0.8]]), images), [1, 0, 2])


def test_auc_by_hand():
    """Of six pairs four are in order and one is a draw."""
    assert auc(np.array([3.0, 1.0]), np.array([2.0, 0.0, 1.0])) == pytest.approx(4.5 / 6)
    weights = np.array([0.0, 1.0, 1.0])
    assert auc(np.array([3.0, 1.0]), np.array([2.0, 0.0, 1.0]), weights) == pytest.approx(3.5 / 4)


def test_true_positives_by_hand():
    outside = np.arange(100.0)
    inside = np.array([98.5, 99.5, 97.5, 10.0])  # one in a hundred may be above: the 99
    assert true_positives(inside, outside) == pytest.approx(0.5)
    assert true_positives(np.array([1.0]), np.array([2.0])) == 0


def test_weights_make_classes_as_frequent():
    weights = class_weights(np.array([0, 0, 0, 1]), np.array([0, 1, 1, 2]))
    np.testing.assert_allclose(weights, [3, 0.5, 0.5, 0])


def test_scores_of_classes_alone_tell_no_members():
    rng = np.random.default_rng(5)
    inside, outside = rng.choice(3, 3000, p=[0.7, 0.2, 0.1]), rng.choice(3, 3000)
    scores = -inside.astype(float), -outside.astype(float)
    assert auc(*scores) > 0.65
    assert auc(*scores, class_weights(inside, outside)) == pytest.approx(0.5, abs=0.001)


def test_random_scores_tell_nothing_and_the_interval_says_so():
    rng = np.random.default_rng(7)
    found = separation(rng.standard_normal(200), rng.standard_normal(300), rng)
    assert found.low < 0.5 < found.high
    assert abs(found.auc - 0.5) < 0.08
    # DeLong's deviation for no effect: sqrt((n + m + 1) / (12 n m)).
    deviation = np.sqrt(501 / (12 * 200 * 300))
    width = 2 * stats.norm.ppf(0.975) * deviation
    assert found.high - found.low == pytest.approx(width, rel=0.2)


def test_members_that_are_told_are_told_with_an_interval():
    rng = np.random.default_rng(8)
    found = separation(rng.standard_normal(200) + 2, rng.standard_normal(300), rng)
    assert found.low < stats.norm.cdf(2 / np.sqrt(2)) < found.high

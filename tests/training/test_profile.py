import numpy as np
import pytest
import torch
from scipy.linalg import subspace_angles
from train_jobs import train_primary

from feddag_flwr.data.samples import LabelledSamples
from feddag_flwr.modalities.image import Image
from feddag_flwr.models.flat import get_parts, parameter_count
from feddag_flwr.models.registry import build_model
from feddag_flwr.profile import subspace_size
from feddag_flwr.seeds import generator
from feddag_flwr.settings import Settings
from feddag_flwr.training.profile import (
    class_subspaces,
    leading_vectors,
    make_profile,
    sparse_coordinates,
)

CPU = torch.device("cpu")


def make_data(count=40, classes=3, seed=0):
    rng = np.random.default_rng(seed)
    images = rng.integers(0, 256, (count, 1, 8, 8), dtype=np.uint8)
    return LabelledSamples(images, np.arange(count) % classes)


@pytest.mark.parametrize("shape", [(5, 30), (30, 5), (12, 12), (1, 9), (200, 64), (64, 200)])
def test_leading_vectors_are_those_of_a_full_svd(shape):
    samples = np.random.default_rng(1).random(shape)
    found = leading_vectors(samples, 3)
    left = np.linalg.svd(samples.T, full_matrices=False)[0][:, : len(found)]
    assert len(found) == min(3, *shape)
    np.testing.assert_allclose(np.abs(np.sum(found.T * left, axis=0)), 1, atol=1e-6)
    np.testing.assert_allclose(found @ found.T, np.eye(len(found)), atol=1e-9)


def test_leading_vectors_by_hand():
    # Samples (2, 0) and (0, 1): the larger direction first, positive entries.
    np.testing.assert_allclose(leading_vectors(np.array([[-2.0, 0], [0, 1.0]]), 2), np.eye(2))


def test_samples_that_span_less_give_fewer_vectors():
    line = np.outer([1.0, 2.0, 3.0], np.arange(10))
    assert leading_vectors(line, 3).shape == (1, 10)
    assert leading_vectors(np.zeros((4, 10)), 3).shape == (0, 10)
    assert leading_vectors(np.zeros((20, 10)), 3).shape == (0, 10)


@pytest.mark.parametrize(
    ("setting", "samples", "expected"),
    [(3.0, 600, 3), (3.0, 2, 2), (0.01, 600, 6), (0.01, 20, 1), (0.5, 3, 2), (1.0, 5, 1)],
)
def test_subspace_size(setting, samples, expected):
    assert subspace_size(setting, samples) == expected


def test_subspaces_are_class_wise_and_not_centred():
    data = make_data()
    vectors, classes = class_subspaces(data, Settings(), np.random.default_rng(0))
    assert classes.tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    for label in range(3):
        pixels = data.samples[data.labels == label].reshape(-1, 64) / 255
        expected = np.linalg.svd(pixels.T, full_matrices=False)[0][:, :3]
        assert np.rad2deg(subspace_angles(vectors[classes == label].T, expected)).max() < 0.01


def test_the_cap_bounds_the_samples_of_a_class():
    data = make_data(300, classes=1)
    capped = Settings.from_run_config({"max-class-samples": 4, "subspace-size": 10.0})
    vectors, _ = class_subspaces(data, capped, np.random.default_rng(0))
    assert vectors.shape == (4, 64)


def test_a_class_with_too_few_samples_sends_no_vectors():
    data = LabelledSamples(make_data(7).samples, np.array([0, 0, 0, 0, 1, 1, 2]))
    few = Settings.from_run_config({"min-subspace-samples": 3})
    vectors, classes = class_subspaces(data, few, np.random.default_rng(0))
    assert classes.tolist() == [0, 0, 0]
    none = Settings.from_run_config({"min-subspace-samples": 5})
    vectors, classes = class_subspaces(data, none, np.random.default_rng(0))
    assert vectors.shape == (0, 64)
    assert classes.shape == (0,)


def test_coordinates_are_the_same_for_all_and_of_the_share_asked_for():
    one, two = sparse_coordinates(1000, 0.02, 5), sparse_coordinates(1000, 0.02, 5)
    assert (one == two).all()
    assert len(set(one.tolist())) == 20
    assert one.min() >= 0
    assert one.max() < 1000
    assert len(sparse_coordinates(10, 0.02, 5)) == 1
    assert (one != sparse_coordinates(1000, 0.02, 6)).any()


def profile_of(settings, data, client="a"):
    model = build_model("small", (1, 8, 8), 3, dual=False, seed=1)
    before, samples = get_parts(model), Image().to_device(CPU, data, ((0.0, 1.0),))
    for number in range(settings.profile.warmup_rounds):
        rng = generator(settings.run.seed, "warm-up", server_round=number, client=client)
        train_primary(model, samples, settings, rng, settings.profile.warmup_epochs)
    made = make_profile(
        before,
        get_parts(model),
        data,
        settings,
        client=client,
        num_classes=5,
        coordinate_seed=9,
        gradient_fraction=settings.profile.gradient_fraction,
        scale=((0.0, 1.0),),
    )
    return made, before, model


def test_the_update_is_what_the_warm_up_changed_at_the_coordinates():
    settings = Settings.from_run_config(
        {"warmup-rounds": 2, "warmup-epochs": 1, "gradient-fraction": 0.1}
    )
    made, before, model = profile_of(settings, make_data())
    after = get_parts(model)
    whole = np.concatenate([after[part].floats - before[part].floats for part in after])
    chosen = sparse_coordinates(parameter_count(model), 0.1, 9)
    np.testing.assert_array_equal(made.update, whole[chosen])
    assert made.update.any()
    np.testing.assert_array_equal(made.encoder.floats, after["primary"].floats)
    assert made.counts.tolist() == [14, 13, 13, 0, 0]


def test_a_profile_repeats_to_the_bit_and_depends_on_the_client():
    settings = Settings.from_run_config({"warmup-epochs": 1, "batch-size": 8})
    one, _, _ = profile_of(settings, make_data())
    two, _, _ = profile_of(settings, make_data())
    other, _, _ = profile_of(settings, make_data(), client="b")
    assert (one.update == two.update).all()
    assert (one.vectors == two.vectors).all()
    assert (one.update != other.update).any()

"""What subspaces are of: samples, small images, or random projections."""

import numpy as np
import pytest
from digit_runs import run_of

from feddag_flwr.data.samples import LabelledSamples
from feddag_flwr.modalities import ModalityError, SampleSpec, load_modality
from feddag_flwr.settings import Settings
from feddag_flwr.subspace_view import PROJECTED, make_view, view_features
from feddag_flwr.training import profile as profiles
from feddag_flwr.training.profile import class_subspaces, leading_vectors, leading_vectors_of_all

LARGE = SampleSpec((3, 64, 96))


def images(count, spec, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (count, *spec.shape), dtype=np.uint8)


@pytest.mark.parametrize(
    ("name", "shape", "kind", "features"),
    [
        ("auto", (3, 32, 32), "raw", 3072),
        ("auto", (1, 28, 28), "raw", 784),
        ("auto", (3, 33, 32), "resized", 3 * 32 * 31),
        ("auto", (3, 224, 224), "resized", 3072),
        ("auto", (3, 64, 96), "resized", 3 * 21 * 32),
        ("raw", (3, 64, 96), "raw", 18_432),
        ("resized", (1, 28, 28), "raw", 784),
        ("projected", (3, 64, 96), "projected", PROJECTED),
        ("projected", (1, 28, 28), "raw", 784),
    ],
)
def test_which_view_it_is(name, shape, kind, features):
    view = make_view(name, "image", SampleSpec(shape), 1)
    assert (view.kind, view.features) == (kind, features)
    assert view_features(name, "image", SampleSpec(shape)) == features
    assert view.matrix(images(2, SampleSpec(shape)), ()).shape == (2, features)


def test_small_images_are_means_of_what_they_cover():
    spec = SampleSpec((3, 64, 64))
    samples = images(3, spec)
    found = make_view("auto", "image", spec, 1).matrix(samples, ())
    blocks = (samples / 255).reshape(3, 3, 32, 2, 32, 2).mean(axis=(3, 5))
    np.testing.assert_allclose(found, blocks.reshape(3, -1), rtol=1e-12)


def test_projections_keep_angles_about_and_are_the_same_for_all_clients():
    samples = images(40, LARGE)
    raw = make_view("raw", "image", LARGE, 7).matrix(samples, ())
    projected = make_view("projected", "image", LARGE, 7).matrix(samples, ())
    again = make_view("projected", "image", LARGE, 7).matrix(samples[30:], ())
    np.testing.assert_allclose(projected[30:], again, rtol=1e-12)
    assert not np.allclose(projected, make_view("projected", "image", LARGE, 8).matrix(samples, ()))

    def cosines(rows):
        rows = rows - rows.mean(axis=0)
        lengths = np.linalg.norm(rows, axis=1)
        return (rows @ rows.T / np.outer(lengths, lengths))[np.triu_indices(40, 1)]

    error = cosines(projected) - cosines(raw)
    # sqrt((1 + c^2) / 1024), c being about 0: 0.031
    assert 0.02 < error.std() < 0.045


def test_profiles_of_large_images_are_small():
    spec = SampleSpec((3, 224, 224))
    data = LabelledSamples(images(20, spec), np.arange(20) % 10)
    vectors, classes = class_subspaces(data, Settings(), np.random.default_rng(0))
    assert vectors.shape == (20, 3072)
    assert vectors.nbytes + classes.nbytes < 10**6
    most = 10 * 3 * 3072 * 4  # ten classes, three vectors each
    assert most < 10**6


def test_a_gram_matrix_in_chunks_gives_the_same_vectors(monkeypatch):
    spec = SampleSpec((1, 6, 5))
    view, samples = make_view("auto", "image", spec, 1), images(200, spec)
    expected = leading_vectors(view.matrix(samples, ()), 3)
    monkeypatch.setattr(profiles, "AT_ONCE", 30 * 64)
    found = leading_vectors_of_all(samples, view, (), 3)
    np.testing.assert_allclose(found, expected, atol=1e-9)


@pytest.mark.parametrize("algorithm", ["feddag", "pacfl"])
@pytest.mark.parametrize("view", ["resized", "projected"])
def test_runs_with_a_view(tmp_path, caplog, algorithm, view):
    with caplog.at_level("INFO", logger="flwr"):
        run = run_of(
            tmp_path, algorithm=algorithm, view=view, image_size=36, model="small",
            num_clients=4, client_groups=2, warmup_epochs=1,
        )  # fmt: skip
    assert run.checkpoint.server_round == 3
    length = {"resized": "1,024", "projected": "1,024"}[view]
    assert f"{length} values of 1,296 (setting view)" in caplog.text


def test_a_kind_of_data_without_smaller_samples_says_so():
    embedding = load_modality("embedding")
    assert embedding.reduced_shape(SampleSpec((4,))) is None
    with pytest.raises(ModalityError, match="setting view: Embedding has no smaller samples"):
        embedding.reduced_matrix(np.zeros((2, 4)), ())

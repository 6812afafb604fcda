"""Series of their own lengths, and embeddings: loaded, scaled, masked, and told apart in a run."""

import json

import numpy as np
import pytest
import torch
from memory_grid import quick_settings

from feddag_flwr.data.array_files import read_arrays
from feddag_flwr.data.samples import DataError, LabelledSamples
from feddag_flwr.data.tables import TableOptions
from feddag_flwr.modalities import ModalityError, SampleSpec, load_modality
from feddag_flwr.modalities.series import STRETCHES, lengths_of
from feddag_flwr.models.registry import build_model
from feddag_flwr.models.series import SeriesEncoder
from feddag_flwr.simulation import run_in_process

SERIES, EMBEDDING = load_modality("series"), load_modality("embedding")
CPU = torch.device("cpu")


def series_of(*lengths, channels=2, seed=1):
    rng = np.random.default_rng(seed)
    padded = np.full((len(lengths), max(lengths), channels), np.nan, np.float32)
    for number, length in enumerate(lengths):
        padded[number, :length] = rng.normal(-3.0, 2.0, (length, channels))
    return padded


def test_padded_series_have_the_features_of_unpadded_ones():
    held = series_of(9, 4, 1)
    scale = ((-3.0, 2.0), (0.5, 1.5))
    torch.manual_seed(1)
    encoder = SeriesEncoder(2)
    inputs = SERIES.to_device(CPU, LabelledSamples(held, np.arange(3)), scale).inputs(slice(None))
    together = encoder(inputs)
    for number, length in enumerate(lengths_of(held).tolist()):
        alone = held[number : number + 1, :length]
        by_itself = SERIES.to_device(CPU, LabelledSamples(alone, np.zeros(1, np.int64)), scale)
        torch.testing.assert_close(encoder(by_itself.inputs(slice(None)))[0], together[number])
    # What stands behind the end has no say.
    spoilt = inputs.clone()
    spoilt[1, 4:, :2] = 1e6
    torch.testing.assert_close(encoder(spoilt), together)


def test_inputs_are_scaled_steps_and_a_mask():
    held = series_of(3, 1, channels=1)
    inputs = SERIES.to_device(CPU, LabelledSamples(held, np.arange(2)), ((-3.0, 2.0),))
    found = inputs.inputs(slice(None)).numpy()
    np.testing.assert_allclose(found[0, :, 0], (held[0, :, 0] + 3) / 2, rtol=1e-6)
    assert found[:, :, 1].tolist() == [[1, 1, 1], [1, 0, 0]]
    assert found[1, 1:, 0].tolist() == [0, 0]


def test_moments_of_series_are_those_of_the_steps_that_are_there():
    held = series_of(5, 2, 7)
    steps = held[~np.isnan(held).any(axis=2)].astype(np.float64)
    expected = np.stack([steps.mean(axis=0), (steps**2).mean(axis=0)], axis=1)
    moments = SERIES.moments(held)
    np.testing.assert_allclose(moments, expected)
    spec = SERIES.spec(held)
    SERIES.check_moments(spec, moments)
    scale = SERIES.scale(spec, [moments], np.ones(1))
    np.testing.assert_allclose(scale, np.stack([steps.mean(axis=0), steps.std(axis=0)], axis=1))


@pytest.mark.parametrize("length", [1, 7, 16, 50])
def test_the_view_of_a_series_is_adaptive_pooling(length):
    held = series_of(length, 60)
    found = SERIES.subspace_matrix(held, ((0.0, 1.0),) * 2)
    assert found.shape == (2, SERIES.subspace_features(SERIES.spec(held)))
    pool = torch.nn.AdaptiveAvgPool1d(STRETCHES)
    expected = pool(torch.from_numpy(held[0, :length].T[None])).numpy()[0].T
    np.testing.assert_allclose(found[0].reshape(STRETCHES, 2), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("held", "message"),
    [
        (np.zeros((2, 3, 4, 5)), "expected numbers of shape"),
        (np.array([["a"]]), "expected numbers of shape"),
        (np.zeros((2, 0)), "expected numbers of shape"),
        ([[1.0, np.inf]], r"series 0, step 1 \(counted from 0\) is infinite"),
        ([[1.0, 2.0], [np.nan, np.nan]], "series 1 has no step"),
        ([[1.0, np.nan, 3.0]], "is NaN in series 0, step 1 .* before its end"),
        ([[[1.0, 1.0], [1.0, np.nan]]], "is NaN in series 0, step 1"),
    ],
)
def test_series_that_cannot_be_are_refused(held, message):
    with pytest.raises(DataError, match=f"a.npz: 'series'.*{message}"):
        SERIES.accept(np.array(held), "a.npz: 'series'")


@pytest.mark.parametrize(
    ("held", "message"),
    [
        (np.zeros((2, 3, 4)), "expected numbers of shape"),
        (
            [[1.0], [np.nan], [np.inf]],
            "2 of 3 have NaN, .* numbers, the first is number 1",
        ),
        ([[1e300, 1.0]], "1 of 1 have NaN, infinite or too large"),
    ],
)
def test_embeddings_that_cannot_be_are_refused(held, message):
    with pytest.raises(DataError, match=message), np.errstate(over="ignore"):
        EMBEDDING.accept(np.array(held), "a.npz: 'embeddings'")


def test_embeddings_are_scaled_by_what_all_clients_say():
    clients = [np.random.default_rng(s).normal(s, 1 + s, (10 * s, 3)) for s in (1, 2)]
    held = [EMBEDDING.accept(each, "") for each in clients]
    spec, moments = EMBEDDING.spec(held[0]), [EMBEDDING.moments(each) for each in held]
    scale = EMBEDDING.scale(spec, moments, np.array([1, 2]) / 3)
    whole = np.concatenate(clients)
    np.testing.assert_allclose(
        scale, np.stack([whole.mean(axis=0), whole.std(axis=0)], axis=1), rtol=1e-5
    )
    np.testing.assert_allclose(
        EMBEDDING.subspace_matrix(held[0], scale),
        (clients[0] - whole.mean(axis=0)) / whole.std(axis=0),
        atol=1e-5,
    )


@pytest.mark.parametrize("modality", [SERIES, EMBEDDING])
def test_what_cannot_be_said_of_them_is_refused(modality):
    for spec in (SampleSpec((2, 2)), SampleSpec((2,), "x")):
        with pytest.raises(ModalityError):
            modality.check(spec)
    spec = SampleSpec((2,))
    for moments in (((2.0, 1.0), (0.0, 1.0)), ((0.0, 1.0),), ((0.0,), (0.0,))):
        with pytest.raises(ModalityError):
            modality.check_moments(spec, moments)
    for scale in (((0.0, 0.0), (0.0, 1.0)), ((0.0, -1.0),) * 2, ()):
        with pytest.raises(ModalityError):
            modality.check_scale(spec, scale)
    modality.check_scale(spec, modality.plain_scale(spec))


@pytest.mark.parametrize("model", ["auto", "mlp", "linear"])
def test_models_of_embeddings(model):
    made = build_model(model, (5,), 3, dual=False, seed=1, modality="embedding")
    assert made(torch.zeros(2, 5)).shape == (2, 3)


def test_the_linear_model_is_linear():
    model = build_model("linear", (5,), 3, dual=False, seed=1, modality="embedding")
    a, b = torch.randn(2, 4, 5)
    torch.testing.assert_close(
        model(a) + model(b), model(a + b) + model(torch.zeros(1, 5)), atol=1e-5, rtol=1e-4
    )


def test_lengths_cut_the_series_of_an_archive(tmp_path):
    path = tmp_path / "a.npz"
    arrays = {"series": np.ones((3, 4)), "labels": ["up", "down", "up"]}
    np.savez(path, lengths=[4, 1, 2], test_series=np.ones((1, 7)), test_labels=["up"], **arrays)
    parts = read_arrays(path, SERIES, TableOptions())
    assert lengths_of(parts.train.samples).tolist() == [4, 1, 2]
    assert lengths_of(parts.test.samples).tolist() == [7]
    assert parts.class_names == ("down", "up")
    np.savez(path, lengths=[4, 0, 2], **arrays)
    with pytest.raises(DataError, match=r"lengths\[1\] = 0; expected 1 to 4"):
        read_arrays(path, SERIES, TableOptions())
    np.savez(path, lengths=[4.0, 1.0, 2.0], **arrays)
    with pytest.raises(DataError, match="'lengths' is float64 of shape"):
        read_arrays(path, SERIES, TableOptions())


def write_clients(folder, array, draw, clients=12, rows=40):
    """Two kinds of clients, in which the classes lie on other axes."""
    for number in range(clients):
        rng = np.random.default_rng(number)
        labels = np.arange(rows) % 2
        samples = draw(rng, 2 * labels - 1, number % 2)
        np.savez(folder / f"client-{number:02d}.npz", **{array: samples, "labels": labels})


def draw_series(rng, signs, kind):
    """Rise or fall in one of two channels, of their own lengths; all numbers negative."""
    held = np.full((len(signs), 12, 2), np.nan)
    for row, (length, sign) in enumerate(zip(rng.integers(6, 12, len(signs)), signs, strict=True)):
        held[row, :length] = -50 + rng.normal(0, 0.3, (length, 2))
        held[row, :length, kind] += 3 * sign * np.linspace(-1, 1, length)
    return held


def draw_embeddings(rng, signs, kind):
    axes = np.repeat([1.0, 0.0] if kind else [0.0, 1.0], 4)
    return rng.normal(0, 1, (len(signs), 8)) + 3 * np.outer(signs, axes)


@pytest.mark.parametrize(
    ("modality", "array", "draw"),
    [("series", "series", draw_series), ("embedding", "embeddings", draw_embeddings)],
)
def test_feddag_finds_the_groups(tmp_path, modality, array, draw):
    write_clients(tmp_path, array, draw)
    folder = run_in_process(
        quick_settings(
            dataset="npz", scenario="own", modality=modality, data_dir=str(tmp_path),
            num_clients=12, run_dir=str(tmp_path / "runs"), client_groups=1, num_rounds=1,
            local_epochs=8, learning_rate=0.1, batch_size=8, participation=0.5, evaluate_every=1,
        )
    )  # fmt: skip
    state = json.loads((sorted(folder.glob("checkpoints/round-*"))[-1] / "state.json").read_text())
    clusters = [state["assignments"][f"client-{number:02d}"] for number in range(12)]
    assert not set(clusters[::2]) & set(clusters[1::2])  # nobody is with one of the other kind
    assert len(set(clusters)) <= 3
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["overall"]["balanced-accuracy"] > 0.8  # chance: 0.5

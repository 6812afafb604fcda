"""Data of which nobody says what it shows, and data that comes to look otherwise."""

import numpy as np
import pytest
from PIL import Image

from feddag_flwr.data.drift import drawn_to_drift
from feddag_flwr.data.newcomers import late_clients
from feddag_flwr.data.samples import UNLABELLED, DataError, LabelledSamples
from feddag_flwr.data.scenarios import load_client_data
from feddag_flwr.data.variation import with_looks
from feddag_flwr.settings import Settings, SettingsError

IMAGES = np.random.default_rng(1).integers(0, 255, (7, 9, 9), dtype=np.uint8)


def own(path, kind, **changes):
    config = {"scenario": "own", "dataset": kind, "unlabelled": "place", **changes}
    return load_client_data(Settings.from_run_config(config), {"data-path": str(path)})


@pytest.mark.parametrize("key", ["images", "train_images", "X"])
def test_an_archive_without_labels(tmp_path, key):
    path = tmp_path / "ward.npz"
    np.savez(path, **{key: IMAGES})
    data = own(path, "npz")
    assert (data.name, data.labelled, data.class_names, len(data.test)) == ("ward", False, (), 0)
    np.testing.assert_array_equal(data.train.samples[:, 0], IMAGES)
    assert set(data.train.labels.tolist()) == {UNLABELLED}
    # With class names of the federation it stays as it is.
    assert own(path, "npz", **{"class-names": "a, b"}).class_names == ()
    with pytest.raises(DataError, match="no array"):
        own(path, "npz", unlabelled="refuse")


def test_images_that_lie_in_the_folder_itself(tmp_path):
    for number, image in enumerate(IMAGES):
        Image.fromarray(image).save(tmp_path / f"{number}.png")
    (tmp_path / "notes.txt").write_text("no image")
    data = own(tmp_path, "image-folder")
    assert not data.labelled
    np.testing.assert_array_equal(data.train.samples[:, 0], IMAGES)
    with pytest.raises(DataError, match="no train images"):
        own(tmp_path, "image-folder", unlabelled="refuse")


def test_neither_labels_nor_images_is_a_fault_still(tmp_path):
    with pytest.raises(DataError, match="no train images"):
        own(tmp_path, "image-folder")
    np.savez(tmp_path / "a.npz", notes=IMAGES)
    with pytest.raises(DataError, match="no array 'images'"):
        own(tmp_path / "a.npz", "npz")
    np.savez(tmp_path / "b.npz", images=IMAGES[:0])
    with pytest.raises(DataError, match="no train images"):
        own(tmp_path / "b.npz", "npz")


def test_folders_of_classes_have_labels_whatever_the_setting(tmp_path):
    for name in ("ill", "well"):
        (tmp_path / name).mkdir()
        for number, image in enumerate(IMAGES):
            Image.fromarray(image).save(tmp_path / name / f"{number}.png")
    assert own(tmp_path, "image-folder").class_names == ("ill", "well")


def simulated(partition, server_round=0, **changes):
    named = {key.replace("_", "-"): value for key, value in changes.items()}
    settings = Settings.from_run_config({"num-clients": 10, **named})
    node = {"partition-id": partition, "num-partitions": 10}
    return settings, load_client_data(settings, node, server_round)


def test_newcomers_have_the_same_images_without_labels():
    changes = {"newcomer_share": 0.2, "newcomers_unlabelled": True, "unlabelled": "place"}
    settings, _ = simulated(0, **changes)
    late = late_clients(settings)
    for partition in (min(late), min(set(range(10)) - late)):
        _, data = simulated(partition, **changes)
        _, plain = simulated(partition, newcomer_share=0.2)
        assert data.labelled == (partition not in late)
        assert data.true_group == plain.true_group
        np.testing.assert_array_equal(data.train.samples, plain.train.samples)


def test_the_images_of_those_who_drift_look_otherwise_from_their_round_on():
    changes = {"drift_share": 0.2, "drift_looks": "turned", "drift_round": 3}
    drawn = drawn_to_drift(10, 0.2, 1).tolist()
    assert len(drawn) == 2
    for partition in (drawn[0], min(set(range(10)) - set(drawn))):
        (_, before), (_, after) = (simulated(partition, at, **changes) for at in (2, 3))
        turns = 1 if partition in drawn else 0
        for part in ("train", "test"):
            one, other = getattr(before, part), getattr(after, part)
            np.testing.assert_array_equal(other.samples, np.rot90(one.samples, turns, (2, 3)))
            np.testing.assert_array_equal(other.labels, one.labels)


def test_inverted_images_of_either_type():
    whole = LabelledSamples(np.array([[0, 255, 10]], dtype=np.uint8), np.zeros(1, dtype=np.int64))
    assert with_looks(whole, "inverted").samples.tolist() == [[255, 0, 245]]
    assert with_looks(whole, "inverted").samples.dtype == np.uint8
    parts = LabelledSamples(np.array([[0.0, 0.25]], dtype=np.float32), np.zeros(1, dtype=np.int64))
    assert with_looks(parts, "inverted").samples.tolist() == [[1.0, 0.75]]


def test_drift_of_looks_needs_somebody_whose_data_drifts():
    with pytest.raises(SettingsError, match="drift-looks = 'turned': needs drift-share above 0"):
        simulated(0, drift_looks="turned")

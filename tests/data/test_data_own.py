"""A client's own files: read once, anew when they change, and refused when they do not fit."""

import os

import numpy as np
import pytest
from PIL import Image

from feddag_flwr.data import own
from feddag_flwr.data.classes import in_spec
from feddag_flwr.data.samples import DataError
from feddag_flwr.data.scenarios import load_client_data
from feddag_flwr.modalities import SampleSpec, load_modality
from feddag_flwr.settings import Settings


def recording(calls, read):
    def called(*arguments, **named):
        calls.append(arguments)
        return read(*arguments, **named)

    return called


def _load(path, kind="npz", **values):
    named = {key.replace("_", "-"): value for key, value in values.items()}
    settings = Settings.from_run_config({"scenario": "own", "dataset": kind, **named})
    return load_client_data(settings, {"data-path": str(path), "client-name": "ward-3"})


def _npz(path, labels, names=("ape", "bee", "cat")):
    images = np.arange(len(labels) * 16, dtype=np.uint8).reshape(-1, 4, 4)
    np.savez(path, images=images, labels=labels, class_names=np.array(names))
    return path


def _pictures(root, name, count):
    (root / name).mkdir(parents=True, exist_ok=True)
    for index in range(count):
        Image.new("L", (5, 5), 10 * index).save(root / name / f"{index}.png")


def test_an_archive_is_read_once_until_it_changes(tmp_path, monkeypatch):
    reads = []
    monkeypatch.setattr(own, "read_own", recording(reads, own.read_own))
    path = _npz(tmp_path / "a.npz", [0, 1] * 8)
    first = _load(path)
    assert _load(path) is first
    assert len(reads) == 1
    _npz(path, [0, 1, 2, 2] * 4)
    grown = _load(path)
    assert np.bincount(grown.train.labels).tolist() == [3, 3, 6]
    assert _load(path) is grown
    assert len(reads) == 2
    os.utime(path, ns=(1, 1))  # the same bytes at another time are read anew, to be safe
    assert _load(path).train.labels.tolist() == grown.train.labels.tolist()
    assert len(reads) == 3


def test_a_tree_is_read_anew_when_a_file_comes_goes_or_changes(tmp_path):
    for part in ("train", "test"):
        for name in ("ape", "bee"):
            _pictures(tmp_path / part, name, 3)
    assert len(_load(tmp_path, "image-folder").train) == 6
    _pictures(tmp_path / "train", "cat", 2)
    grown = _load(tmp_path, "image-folder")
    assert grown.class_names == ("ape", "bee", "cat")
    assert np.bincount(grown.train.labels).tolist() == [3, 3, 2]
    (tmp_path / "train/ape/2.png").unlink()
    assert np.bincount(_load(tmp_path, "image-folder").train.labels).tolist() == [2, 3, 2]
    Image.new("L", (5, 5), 255).save(tmp_path / "test/bee/0.png")
    assert _load(tmp_path, "image-folder").test.samples.max() == 255


def test_what_is_kept_is_bounded(tmp_path, monkeypatch):
    reads = []
    monkeypatch.setattr(own, "read_own", recording(reads, own.read_own))
    paths = [_npz(tmp_path / f"{index}.npz", [0, 1] * 4) for index in range(12)]
    for path in [*paths, paths[-8], paths[0]]:
        _load(path)
    assert len(reads) == 13  # the eighth last is kept, the first no longer


def test_an_archive_that_went_away_is_missed(tmp_path):
    path = _npz(tmp_path / "a.npz", [0, 1] * 8)
    _load(path)
    path.unlink()
    with pytest.raises(DataError, match=r"client 'ward-3': .*a.npz: no such file"):
        _load(path)


def test_labels_are_in_the_order_of_the_setting_class_names(tmp_path):
    path = _npz(tmp_path / "a.npz", [0, 0, 0, 1, 1, 1])
    data = _load(path, class_names="dog, bee,ape")
    assert data.class_names == ("dog", "bee", "ape")
    assert sorted(data.train.labels.tolist()) == [1, 1, 2, 2]
    assert sorted(data.test.labels.tolist()) == [1, 2]


def test_a_class_that_the_setting_does_not_name_is_refused(tmp_path):
    path = _npz(tmp_path / "a.npz", [0, 0, 1, 1])
    message = r"client 'ward-3': class 'bee' is none of the federation's \['ape', 'cat'\]"
    with pytest.raises(DataError, match=message):
        _load(path, class_names="ape,cat")


def test_classes_of_a_common_source_are_matched_too():
    settings = Settings.from_run_config({"class-names": ",".join("9876543210")})
    plain = load_client_data(Settings(), {"partition-id": 3})
    turned = load_client_data(settings, {"partition-id": 3})
    assert (turned.train.labels == 9 - plain.train.labels).all()
    few = Settings.from_run_config({"class-names": "0,1"})
    with pytest.raises(DataError, match=r"client 'client-03': class '\d' is none of"):
        load_client_data(few, {"partition-id": 3})


def test_images_of_another_shape_are_fitted_and_of_other_channels_refused(tmp_path):
    data = _load(_npz(tmp_path / "a.npz", [0, 0, 1, 1]))
    same = in_spec(data, SampleSpec((1, 4, 4)), load_modality("image"))
    assert same.train is data.train
    message = (
        r"client 'ward-3': samples are 4 x 4 with 1 channel.*of the federation 4 x 5 with 2 ch"
    )
    fitted = in_spec(data, SampleSpec((3, 4, 5)), load_modality("image"))
    assert fitted.train.samples.shape == (len(data.train), 3, 4, 5)
    with pytest.raises(DataError, match=message):
        in_spec(data, SampleSpec((2, 4, 5)), load_modality("image"))


def test_a_file_that_came_into_a_folder_below_a_class_is_read(tmp_path):
    def picture(name, value):
        path = tmp_path / "ward/train" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (8, 8), value).save(path)

    for index in range(4):
        picture(f"ape/p-1/scan-1/{index}.png", index)
        picture(f"bee/{index}.png", 9 + index)
    settings = Settings.from_run_config({"scenario": "own", "dataset": "image-folder"})
    node = {"data-path": str(tmp_path / "ward")}
    before = own.load_own_data(settings, node)
    picture("ape/p-1/scan-1/new.png", 200)
    after = own.load_own_data(settings, node)
    assert len(after.train) + len(after.test) == len(before.train) + len(before.test) + 1
    assert own.load_own_data(settings, node) is after

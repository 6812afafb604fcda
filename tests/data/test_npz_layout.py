import numpy as np
import pytest

from feddag_flwr.data.files import read_npz, read_npz_images
from feddag_flwr.data.npz_layout import find_layout
from feddag_flwr.data.samples import DataError
from feddag_flwr.modalities import load_modality

LABELS = np.array([0, 1, 2, 0, 1, 2])


def images(value):
    """Six images that are told from other parts' by their pixels."""
    return np.full((6, 4, 5), value, np.uint8)


@pytest.mark.parametrize(
    ("train", "test", "expected"),
    [
        (("images", "labels"), None, None),
        (("train_images", "train_labels"), ("test_images", "test_labels"), 2),
        (("train_images", "train_labels"), ("val_images", "val_labels"), 2),
        (("train_images", "train_labels"), ("valid_images", "valid_labels"), 2),
        (("images", "labels"), ("validation_images", "validation_labels"), 2),
        (("x_train", "y_train"), ("x_test", "y_test"), 2),
        (("X_train", "y_train"), ("X_val", "y_val"), 2),
        (("X", "y"), None, None),
    ],
)
def test_the_common_layouts_are_read(tmp_path, train, test, expected):
    arrays = {train[0]: images(1), train[1]: LABELS}
    if test:
        arrays |= {test[0]: images(2), test[1]: LABELS[::-1]}
    np.savez(tmp_path / "a.npz", **arrays)
    parts = read_npz(tmp_path / "a.npz", load_modality("image"))
    assert parts.train.samples.max() == 1
    assert parts.train.labels.tolist() == [0, 1, 2, 0, 1, 2]
    assert (parts.test is not None) == (expected is not None)
    shown = read_npz_images(tmp_path / "a.npz")
    assert (shown.key, shown.images.max()) == ((test or train)[0], expected or 1)
    if parts.test is not None:
        assert parts.test.samples.max() == expected
        assert parts.test.labels.tolist() == [2, 1, 0, 2, 1, 0]


def test_labels_may_be_a_column(tmp_path):
    np.savez(tmp_path / "a.npz", images=images(1), labels=LABELS[:, np.newaxis].astype(np.uint8))
    assert read_npz(tmp_path / "a.npz", load_modality("image")).train.labels.tolist() == [
        0,
        1,
        2,
        0,
        1,
        2,
    ]


def test_a_test_part_goes_before_a_validation_part():
    names = [f"{part}_{kind}" for part in ("val", "test", "train") for kind in ("labels", "images")]
    found = find_layout([*names, "notes", "class_names"])
    assert found.train == ("train_images", "train_labels")
    assert found.test == ("test_images", "test_labels")
    assert found.class_names == "class_names"
    assert found.passed_over == ("notes", "val_images", "val_labels")


def test_images_without_labels_beside_a_whole_part_are_passed_over():
    found = find_layout(["x_train", "y_train", "x_test"])
    assert (found.train, found.test) == (("x_train", "y_train"), None)
    assert found.passed_over == ("x_test",)


def test_a_message_names_all_that_an_archive_has(tmp_path):
    np.savez(tmp_path / "a.npz", pictures=images(1), train_labels=LABELS, other=LABELS)
    with pytest.raises(DataError) as caught:
        read_npz(tmp_path / "a.npz", load_modality("image"))
    assert "a.npz: no array 'train_images'; it has ['other', 'pictures', 'train_labels'], " in str(
        caught.value
    )
    np.savez(tmp_path / "b.npz", **{f"layer-{index:03d}": LABELS for index in range(300)})
    with pytest.raises(DataError, match=r"'layer-019'\] and 280 more, expected 'images' and"):
        read_npz(tmp_path / "b.npz", load_modality("image"))

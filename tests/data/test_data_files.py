import io
import os
import struct
import zipfile

import numpy as np
import pytest
from PIL import Image

from feddag_flwr.data.files import read_npz, read_npz_images
from feddag_flwr.data.folders import images_below, read_domain_folders, read_image_folder
from feddag_flwr.data.images.decoding import decode
from feddag_flwr.data.images.form import ImageForm
from feddag_flwr.data.images.preparation import Reading
from feddag_flwr.data.samples import DataError, LabelledSamples
from feddag_flwr.modalities import load_modality

GREY = np.arange(6 * 4 * 5, dtype=np.uint8).reshape(6, 4, 5)
LABELS = np.array([0, 1, 2, 0, 1, 2])
REFUSE = Reading(skip=False)


def _npz(path, **arrays):
    np.savez(path, **{"images": GREY, "labels": LABELS, **arrays})
    return path


def test_npz_grey(tmp_path):
    parts = read_npz(_npz(tmp_path / "a.npz"), load_modality("image"))
    assert parts.train.samples.shape == (6, 1, 4, 5)
    assert (parts.train.samples[:, 0] == GREY).all()
    assert parts.train.samples.dtype == np.uint8
    assert parts.train.labels.dtype == np.int64
    assert parts.test is None
    assert parts.class_names == ("0", "1", "2")


def test_npz_colour_float_with_test_part_and_names(tmp_path):
    colour = np.random.default_rng(0).random((6, 4, 5, 3))
    parts = read_npz(
        _npz(
            tmp_path / "a.npz",
            images=colour,
            test_images=colour[:2].astype(np.float32),
            test_labels=np.array([3, 0], dtype=np.uint16),
            class_names=np.array(["a", "b", "c", "d"]),
        ),
        load_modality("image"),
    )
    assert parts.train.samples.dtype == np.float32
    assert parts.train.samples[1, 2, 3, 4] == np.float32(colour[1, 3, 4, 2])
    assert parts.train.samples.flags.c_contiguous
    assert parts.test is not None
    assert parts.test.labels.tolist() == [3, 0]
    assert parts.class_names == ("a", "b", "c", "d")


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"images": GREY[0]}, r"'images' has shape \(4, 5\); expected \(n, height, width\)"),
        ({"images": np.zeros((6, 3, 8, 8), np.uint8)}, r"has shape \(6, 3, 8, 8\).*1 to 4 chan"),
        ({"images": np.zeros((6, 0, 8), np.uint8)}, r"has shape \(6, 0, 8"),
        (
            {"images": GREY.astype(np.int32) * 3},
            "'images' is int32; expected uint8, integers",
        ),
        ({"images": GREY.astype(float)}, r"runs from 0.0 to 119.0; expected floating in \[0, 1\]"),
        (
            {"images": np.where(np.arange(6) > 3, np.inf, 0.5)[:, None, None] * np.ones((6, 4, 4))},
            r"'images': 2 of 6 have NaN or infinite pixels, the first is number 4",
        ),
        ({"images": np.full((6, 4, 4), np.nan)}, "6 of 6 have NaN or infinite pixels"),
        ({"images": GREY[:0], "labels": LABELS[:0]}, "no train images"),
        ({"labels": LABELS[:5]}, "6 'images' but 5 'labels'"),
        ({"labels": LABELS + 0.5}, r"labels\[0\] = 0.5; expected a whole number"),
        (
            {"labels": np.array(["a"] * 6), "class_names": np.array(["a", "b"])},
            "'labels' are texts, which name their classes, but 'class_names' is there too",
        ),
        ({"labels": np.stack([LABELS, LABELS], 1)}, r"'labels' is int64 of shape \(6, 2\)"),
        ({"labels": LABELS - 1}, r"labels\[0\] = -1; expected a whole number, 0 to 9999"),
        ({"labels": LABELS + 10_000}, r"labels\[0\] = 10000; expected a whole number"),
        ({"class_names": np.array(["a", "b"])}, "label 2 is out of range for 2 'class_names'"),
        ({"class_names": np.array(["a", "b", "a"])}, "'class_names' has duplicates"),
        ({"class_names": np.array([1, 2, 3])}, "'class_names' is int64 .*expected unicode"),
        ({"test_images": GREY}, "no array 'test_labels'"),
        ({"test_images": GREY[:0], "test_labels": LABELS[:0]}, "'test_images' has length 0"),
        (
            {"test_images": GREY[:, :2], "test_labels": LABELS},
            "'test_images' are 2 x 5 .* but 'images' are 4 x 5",
        ),
        ({"test_images": GREY / 255, "test_labels": LABELS}, r"float32 but .*uint8; expected the"),
    ],
)
def test_npz_faults_are_named(tmp_path, arrays, message):
    path = _npz(tmp_path / "faulty.npz", **arrays)
    with pytest.raises(DataError, match=message) as caught:
        read_npz(path, load_modality("image"))
    assert "faulty.npz" in str(caught.value)


@pytest.mark.parametrize(
    ("labels", "numbers", "names"),
    [
        (LABELS.astype(float), LABELS, ("0", "1", "2")),
        (LABELS > 0, LABELS > 0, ("0", "1")),
        (np.array(["b", "a", "d"])[LABELS], np.array([1, 0, 2])[LABELS], ("a", "b", "c", "d")),
    ],
)
def test_npz_labels_of_other_kinds(tmp_path, labels, numbers, names):
    """Texts name classes, whichever part has them."""
    more = {"test_images": GREY[:1], "test_labels": np.array(["c"])} if "c" in names else {}
    parts = read_npz(_npz(tmp_path / "a.npz", labels=labels, **more), load_modality("image"))
    assert parts.class_names == names
    wanted = np.where(numbers == 2, 3, numbers) if "c" in names else numbers
    assert parts.train.labels.tolist() == wanted.astype(int).tolist()
    if more:
        assert parts.test.labels.tolist() == [2]


@pytest.mark.parametrize("missing", ["images", "labels"])
def test_npz_without_images_or_labels(tmp_path, missing):
    arrays = {"images": GREY, "labels": LABELS}
    del arrays[missing]
    np.savez(tmp_path / "a.npz", **arrays)
    with pytest.raises(DataError, match=f"a.npz: no array '{missing}'"):
        read_npz(tmp_path / "a.npz", load_modality("image"))


def test_npz_that_is_none(tmp_path):
    with pytest.raises(DataError, match=r"gone.npz: no such file"):
        read_npz(tmp_path / "gone.npz", load_modality("image"))
    _npz(tmp_path / "whole.npz")
    content = (tmp_path / "whole.npz").read_bytes()
    damaged = bytearray(content)
    damaged[150] ^= 255  # in the pixels: the checksum fails
    np.save(tmp_path / "array.npy", GREY)
    for fault in (b"", b"not a zip", content[:200], bytes(damaged),
                  (tmp_path / "array.npy").read_bytes()):  # fmt: skip
        (tmp_path / "bad.npz").write_bytes(fault)
        with pytest.raises(DataError, match=r"bad.npz: not a readable .npz archive"):
            read_npz(tmp_path / "bad.npz", load_modality("image"))


class _Bomb:
    """Makes a file when unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


@pytest.mark.parametrize("array", ["images", "labels", "class_names"])
def test_npz_pickles_are_never_opened(tmp_path, array):
    bomb = np.array([_Bomb(tmp_path / "exploded")] * 6, dtype=object)
    path = _npz(tmp_path / "pickled.npz", **{array: bomb})
    with pytest.raises(DataError, match=r"pickled.npz: .* without pickles"):
        read_npz(path, load_modality("image"))
    assert not (tmp_path / "exploded").exists()


def test_a_bare_pickle_named_npz_is_never_opened(tmp_path):
    import pickle

    (tmp_path / "a.npz").write_bytes(pickle.dumps(_Bomb(tmp_path / "exploded")))
    with pytest.raises(DataError, match="without pickles"):
        read_npz(tmp_path / "a.npz", load_modality("image"))
    assert not (tmp_path / "exploded").exists()


def _picture(path, *, mode="L", size=(6, 4), value=7):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, value).save(path)


def test_folder_with_train_and_test(tmp_path):
    _picture(tmp_path / "train/cat/1.png", value=1)
    _picture(tmp_path / "train/cat/0.PNG", value=0)
    _picture(tmp_path / "train/ant/0.jpg", value=9)
    _picture(tmp_path / "test/cat/0.png", value=5)
    (tmp_path / "train/cat/notes.txt").write_text("passed over")
    (tmp_path / "train/cat/._1.png").write_text("passed over")
    (tmp_path / "train/.hidden").mkdir()
    parts = read_image_folder(tmp_path)
    assert parts.class_names == ("ant", "cat")
    assert parts.train.samples.shape == (3, 1, 4, 6)  # stays grey; height before width
    assert parts.train.samples[:, 0, 0, 0].tolist() == [9, 0, 1]
    assert parts.train.labels.tolist() == [0, 1, 1]
    assert parts.test is not None
    assert parts.test.labels.tolist() == [1]
    assert parts.test.samples.max() == 5


def test_folder_without_test_part(tmp_path):
    _picture(tmp_path / "a/0.png", mode="RGB", value=(1, 2, 3))
    _picture(tmp_path / "b/0.png", mode="1", value=1)
    parts = read_image_folder(tmp_path)
    assert parts.test is None
    assert parts.train.samples.shape == (2, 3, 4, 6)
    assert parts.train.samples[0, :, 0, 0].tolist() == [1, 2, 3]
    assert parts.train.samples[1].min() == 255


def _many(root, *classes):
    for name in classes:
        for index in range(2):
            _picture(root / name / f"{index}.png")


def test_folder_faults_are_named(tmp_path):
    with pytest.raises(DataError, match="gone: no such folder"):
        read_image_folder(tmp_path / "gone")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="empty: no train images; expected one sub-folder a class"):
        read_image_folder(tmp_path / "empty")

    _many(tmp_path / "untested", "train/a")
    (tmp_path / "untested/test/a").mkdir(parents=True)
    with pytest.raises(DataError, match=r"test: no test images; fill the folder or remove it"):
        read_image_folder(tmp_path / "untested")


def test_corrupt_image_is_named(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (64, 64), dtype=np.uint8)
    (tmp_path / "a").mkdir()
    Image.fromarray(noise).save(tmp_path / "a/0.png")
    Image.fromarray(noise).save(tmp_path / "a/1.png")
    whole = (tmp_path / "a/1.png").read_bytes()
    for fault in (b"", b"no image", whole[: len(whole) // 2]):
        (tmp_path / "a/1.png").write_bytes(fault)
        with pytest.raises(DataError, match=r"1.png: not a readable image"):
            read_image_folder(tmp_path, REFUSE)


def test_labelled_images_must_agree():
    with pytest.raises(DataError, match=r"samples of shape \(2, 1, 4, 4\) with labels of shape"):
        LabelledSamples(np.zeros((2, 1, 4, 4), np.uint8), np.zeros(3, np.int64))


def test_select_copies_in_order():
    images = LabelledSamples(GREY[:, None], LABELS.astype(np.int64))
    chosen = images.select(np.array([4, 0]))
    assert chosen.labels.tolist() == [1, 0]
    chosen.samples[:] = 0
    assert images.samples.max() > 0


def test_images_lie_at_any_depth_below_their_class(tmp_path):
    root = tmp_path / "data"
    names = ("cat/0.png", "cat/p-1/1.png", "cat/p-1/scan/2.png", "ant/p-1/0.PNG")
    for index, name in enumerate(names):
        _picture(root / "train" / name, value=index)
    _picture(root / "test/cat/p-2/0.png", value=9)
    _picture(root / "train/cat/.thumbs/0.png", value=77)
    parts = read_image_folder(root)
    assert parts.train.samples[:, 0, 0, 0].tolist() == [3, 0, 1, 2]
    assert parts.train.labels.tolist() == [0, 1, 1, 1]
    assert parts.test.samples[:, 0, 0, 0].tolist() == [9]
    _picture(root / "north/ant/deep/down/0.png", value=5)
    domains = read_domain_folders(root)
    assert domains.domain_names == ("north", "test", "train")
    assert domains.train.samples[:, 0, 0, 0].tolist() == [5, 9, 3, 0, 1, 2]


def test_links_to_folders_are_followed_once_and_end(tmp_path):
    _picture(tmp_path / "elsewhere/0.png", value=1)
    _picture(tmp_path / "data/cat/1.png", value=2)
    (tmp_path / "data/cat/linked").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "data/cat/itself").symlink_to(tmp_path / "data/cat")
    found = [file.name for file in images_below(tmp_path / "data")]
    assert found == ["1.png", "0.png"]


def test_a_folder_that_cannot_be_listed_is_named(tmp_path, monkeypatch):
    _many(tmp_path, "a", "b")
    real = os.scandir

    def scandir(path):
        if str(path).endswith("/b"):
            raise PermissionError(13, "Permission denied", str(path))
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)
    with pytest.raises(DataError, match=r"b: cannot be listed \(Permission denied\)"):
        read_image_folder(tmp_path)


@pytest.mark.parametrize("names", [("Train", "Test"), ("training", "testing"), ("val",)])
def test_folders_of_parts_are_not_taken_for_classes(tmp_path, names):
    _many(tmp_path, *(f"{name}/{kind}" for name in names for kind in ("cat", "ant")))
    with pytest.raises(DataError, match="a folder of that name would be a class"):
        read_image_folder(tmp_path)


def test_one_class_in_two_unicode_forms_is_one_class(tmp_path):
    root = tmp_path / "all/north"
    _picture(root / "cafe\u0301/0.png", value=1)
    _picture(root / "caf\u00e9/1.png", value=2)
    _picture(root / "bar/0.png", value=3)
    parts = read_image_folder(root)
    assert parts.class_names == ("bar", "caf\u00e9")
    pixels = parts.train.samples[:, 0, 0, 0].tolist()
    assert dict(zip(pixels, parts.train.labels.tolist(), strict=True)) == {1: 1, 2: 1, 3: 0}
    domains = read_domain_folders(tmp_path / "all")
    assert domains.class_names == ("bar", "caf\u00e9")
    path = _npz(tmp_path / "a.npz", class_names=np.array(["a", "b", "cafe\u0301"]))
    assert read_npz(path, load_modality("image")).class_names == ("a", "b", "caf\u00e9")
    path = _npz(tmp_path / "b.npz", class_names=np.array(["a", "caf\u00e9", "cafe\u0301"]))
    with pytest.raises(DataError, match="'class_names' has duplicates"):
        read_npz(path, load_modality("image"))


def _npy(array):
    content = io.BytesIO()
    np.save(content, array)
    return content.getvalue()


def _claiming(shape, kind="|u1"):
    """Begin an array that is said to be of some shape, without its content."""
    text = f"{{'descr': '{kind}', 'fortran_order': False, 'shape': {shape}, }}".encode()
    text += b" " * (63 - (len(text) + 10) % 64) + b"\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text


def read_images(path):
    return read_npz(path, load_modality("image"))


@pytest.mark.parametrize(
    ("members", "reason"),
    [
        ({"images": b"no array"}, "'images' is no array"),
        ({"images.npy": b"no array"}, "'images' is no array"),
        ({"class_names": b"abc", "images.npy": _npy(GREY)}, "'class_names' is no array"),
        ({"images.npy": _claiming((10**7, 10**3, 10**3, 4))}, "does not fit into memory"),
        ({"images.npy": _claiming((10**30, 28, 28))}, "too large to convert"),
        ({"images.npy": _claiming((6, 28, 28)).replace(b"{", b"(")}, "not a readable .npz"),
        ({"images.npy": b"\x93NUMPY\x01\x00\x10\x00{'descr': (((((((("}, "EOF in multi-line"),
        ({"images.npy": b"\x93NUMPY\x01\x00\xff\xff" + b" " * 65_535}, "not a readable .npz"),
    ],
)
@pytest.mark.parametrize("read", [read_images, read_npz_images])
def test_odd_archives_are_refused_in_one_line(tmp_path, members, reason, read):
    with zipfile.ZipFile(tmp_path / "odd.npz", "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
        archive.writestr("labels.npy", _npy(LABELS))
    with pytest.raises(DataError) as caught:
        read(tmp_path / "odd.npz")
    told = str(caught.value)
    assert told.startswith(f"{tmp_path / 'odd.npz'}: ")
    assert reason in told
    assert "\n" not in told


@pytest.mark.parametrize(
    "error", [MemoryError(), KeyError(7), RuntimeError("a\n  b"), struct.error("x")]
)
def test_whatever_a_picture_s_reader_raises_is_told_in_one_line(tmp_path, monkeypatch, error):
    _many(tmp_path, "a")

    def fail(self):
        raise error

    monkeypatch.setattr(Image.Image, "convert", lambda self, mode: fail(self))
    reason = {"MemoryError": "MemoryError", "KeyError": "7", "RuntimeError": "a b", "error": "x"}
    expected = f"not a readable image ({reason[type(error).__name__]})"
    with pytest.raises(DataError) as caught:
        read_image_folder(tmp_path, REFUSE)
    assert str(caught.value) == f"{tmp_path / 'a/0.png'}: {expected}"
    with pytest.raises(DataError) as caught:
        decode(tmp_path / "a/1.png", ImageForm(1, 4, 6))
    assert str(caught.value) == f"{tmp_path / 'a/1.png'}: {expected}"


def test_pictures_that_do_not_fit_into_memory_are_counted(tmp_path, monkeypatch):
    _many(tmp_path, "a", "b")

    def full(*args, **kwargs):
        raise MemoryError

    monkeypatch.setattr(np, "empty", full)
    with pytest.raises(DataError) as caught:
        read_image_folder(tmp_path)
    expected = f"{tmp_path}: 4 images of 6 x 4 pixels do not fit into memory"
    assert str(caught.value) == expected

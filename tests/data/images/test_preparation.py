"""Folders of images of many kinds, and what is kept of large ones."""

import logging
import multiprocessing
import os
import time

import numpy as np
import pytest
from PIL import Image

from feddag_flwr.data import mapped, own
from feddag_flwr.data.folders import read_domain_folders, read_image_folder
from feddag_flwr.data.images import preparation, progress
from feddag_flwr.data.images.form import ImageForm
from feddag_flwr.data.images.preparation import Reading
from feddag_flwr.data.samples import DataError, LabelledSamples
from feddag_flwr.data.scenarios import load_client_data
from feddag_flwr.settings import Settings


def picture(path, size=(9, 8), seed=0, mode="L"):
    """Save noise: the width first, as Pillow has it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(pixels).convert(mode).save(path)


def folder(root, names=("ape", "bee"), count=6, **options):
    for label, name in enumerate(names):
        for index in range(count):
            picture(root / name / f"{index}.png", seed=100 * label + index, **options)
    return root


@pytest.fixture
def large(tmp_path, monkeypatch):
    """Let all images be kept in files, in a folder of the test's."""
    monkeypatch.setattr(preparation, "IN_MEMORY", 0)
    monkeypatch.setattr(preparation, "MANY_FILES", 0)
    return Reading(cache=str(tmp_path / "cache"))


# -- folders as people have them -----------------------------------------------------------------


def test_images_of_many_sizes_become_those_of_the_most_common(tmp_path, caplog):
    folder(tmp_path)
    picture(tmp_path / "ape/a.png", (30, 20))
    picture(tmp_path / "bee/b.png", (7, 50), mode="RGB")
    with caplog.at_level(logging.INFO, logger="flwr"):
        parts = read_image_folder(tmp_path)
    assert parts.train.samples.shape == (14, 3, 8, 9)
    assert "images of 3 sizes, width x height: 9 x 8 (12), 7 x 50 (1), 30 x 20 (1); all " in (
        caplog.text
    )
    given = read_image_folder(tmp_path, Reading(side=16))
    assert given.train.samples.shape == (14, 3, 16, 16)


def test_of_equally_common_sizes_it_is_the_smallest(tmp_path):
    for index, size in enumerate([(10, 10), (12, 8), (9, 11)]):
        picture(tmp_path / f"ape/{index}.png", size)
    assert read_image_folder(tmp_path).train.samples.shape[1:] == (1, 8, 12)


def test_unreadable_and_empty_files_are_passed_over_and_named_in_one_line(tmp_path, caplog):
    folder(tmp_path)
    whole = (tmp_path / "ape/3.png").read_bytes()
    (tmp_path / "ape/3.png").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "bee/9.png").touch()
    with caplog.at_level(logging.WARNING, logger="flwr"):
        parts = read_image_folder(tmp_path)
    assert np.bincount(parts.train.labels).tolist() == [5, 6]
    (line,) = [record.getMessage() for record in caplog.records]
    assert "2 of 13 files cannot be read and are passed over" in line
    assert "ape/3.png" in line
    assert "bee/9.png" in line
    with pytest.raises(DataError, match=r"bee.9\.png: not a readable image"):
        read_image_folder(tmp_path, Reading(skip=False))


def test_what_a_broken_file_leaves_is_as_if_it_had_never_been_there(tmp_path):
    left, right = folder(tmp_path / "a/x"), folder(tmp_path / "b/x")
    (left / "ape/3.png").unlink()
    (right / "ape/3.png").write_bytes((right / "ape/3.png").read_bytes()[:60])
    settings = Settings.from_run_config({"scenario": "own", "dataset": "image-folder"})
    found = [load_client_data(settings, {"data-path": str(root)}) for root in (left, right)]
    assert np.array_equal(found[0].train.samples, found[1].train.samples)
    assert np.array_equal(found[0].test.labels, found[1].test.labels)


def test_a_folder_without_one_readable_image_is_refused(tmp_path):
    (tmp_path / "ape").mkdir()
    (tmp_path / "ape/0.png").write_bytes(b"no image")
    with pytest.raises(DataError, match=r"no file can be read, the first: .*0.png: not a readable"):
        read_image_folder(tmp_path)


def test_hidden_and_foreign_files_are_told_in_one_line(tmp_path, caplog):
    folder(tmp_path)
    for name in (".DS_Store", "Thumbs.db", "._x.png", "notes.txt"):
        (tmp_path / "ape" / name).write_bytes(bytes(64))
    with caplog.at_level(logging.INFO, logger="flwr"):
        assert len(read_image_folder(tmp_path).train) == 12
    (line,) = [each.getMessage() for each in caplog.records]
    assert "4 files passed over" in line


def test_nested_folders_suffixes_and_names_of_any_kind_are_read(tmp_path):
    picture(tmp_path / "T\u00e4sche Nr. 2/patient-1/0.bmp")
    picture(tmp_path / "T\u00e4sche Nr. 2/patient-2/1.JPG")
    picture(tmp_path / "\u9774/scan/2.TIFF")
    picture(tmp_path / "\u9774/3.webp")
    parts = read_image_folder(tmp_path)
    assert parts.class_names == ("T\u00e4sche Nr. 2", "\u9774")
    assert parts.train.labels.tolist() == [0, 0, 1, 1]


def test_empty_classes_and_classes_of_the_test_part_alone_are_warned_of(tmp_path, caplog):
    folder(tmp_path / "train")
    (tmp_path / "train/eel").mkdir()
    folder(tmp_path / "test", ("ape", "cat"), 2)
    with caplog.at_level(logging.WARNING, logger="flwr"):
        parts = read_image_folder(tmp_path)
    assert parts.class_names == ("ape", "bee", "cat", "eel")
    assert parts.test.labels.tolist() == [0, 0, 2, 2]
    assert "no train images of 'cat', 'eel'" in caplog.text


def test_domains_are_prepared_alike(tmp_path):
    folder(tmp_path / "north")
    folder(tmp_path / "south", size=(20, 20))
    picture(tmp_path / "south/bee/x.png", (9, 8))
    (tmp_path / "south/ape/broken.png").write_bytes(b"no image")
    parts = read_domain_folders(tmp_path)
    assert parts.train.samples.shape == (25, 1, 8, 9)
    assert np.bincount(parts.train.labels).tolist() == [6, 6, 6, 7]


def test_arrays_become_of_the_size_that_is_set(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (12, 20, 30), dtype=np.uint8)
    np.savez(tmp_path / "a.npz", images=pixels, labels=np.arange(12) % 2)
    base = {"scenario": "own", "dataset": "npz", "image-size": 16}
    data = load_client_data(Settings.from_run_config(base), {"data-path": str(tmp_path / "a.npz")})
    assert data.train.samples.shape[1:] == (1, 16, 16)
    digits = load_client_data(Settings.from_run_config({"image-size": 12}), {"partition-id": 0})
    assert digits.train.samples.shape[1:] == (1, 12, 12)


# -- what is kept in files -------------------------------------------------------------------------


def test_mapped_images_are_those_in_memory(tmp_path, large, monkeypatch):
    root = folder(tmp_path / "data")
    picture(root / "bee/7.png", (40, 30))
    (root / "ape/8.png").write_bytes((root / "ape/1.png").read_bytes()[:70])
    kept = read_image_folder(root, large)
    assert isinstance(kept.train.samples, np.memmap)
    monkeypatch.setattr(preparation, "IN_MEMORY", 2**30)
    plain = read_image_folder(root)
    assert not isinstance(plain.train.samples, np.memmap)
    assert np.array_equal(kept.train.samples, plain.train.samples)
    assert np.array_equal(kept.train.labels, plain.train.labels)
    chosen = np.array([9, 2, 2, 0])
    few = kept.train.select(chosen)
    assert isinstance(few.samples, np.memmap)
    assert np.array_equal(few.samples, plain.train.samples[chosen])
    again = few.select(np.array([3, 1]))
    assert np.array_equal(again.samples, plain.train.samples[[0, 2]])


def test_files_are_decoded_once(tmp_path, large, monkeypatch):
    root = folder(tmp_path / "data")
    (root / "ape/8.png").write_bytes(b"no image")
    first = read_image_folder(root, large)
    monkeypatch.setattr(preparation, "decode", None)
    monkeypatch.setattr("feddag_flwr.data.images.survey.read_head", None)
    second = read_image_folder(root, large)
    assert np.array_equal(first.train.samples, second.train.samples)
    with pytest.raises(DataError, match=r"8\.png: not a readable image"):
        read_image_folder(root, large._replace(skip=False))


def test_what_is_kept_of_other_states_and_unused_for_long_goes(tmp_path, large):
    root, other = folder(tmp_path / "data"), folder(tmp_path / "other")
    read_image_folder(other, large)
    read_image_folder(root, large)
    kept = tmp_path / "cache/images"
    before = set(kept.glob("*/*"))
    assert len(before) == 2
    picture(root / "ape/new.png", seed=77)
    assert len(read_image_folder(root, large).train) == 13
    after = set(kept.glob("*/*"))
    assert len(after) == 2
    assert len(before & after) == 1
    (entry,) = before & after
    old = time.time() - mapped.UNUSED - 60
    os.utime(entry, (old, old))
    picture(root / "ape/newer.png", seed=78)
    read_image_folder(root, large)
    assert entry not in set(kept.glob("*/*"))


def test_a_file_that_is_not_whole_is_made_anew(tmp_path, large):
    root = folder(tmp_path / "data")
    first = np.array(read_image_folder(root, large).train.samples)
    (rows,) = (tmp_path / "cache").rglob("*.u8")
    rows.write_bytes(rows.read_bytes()[:100])
    assert np.array_equal(read_image_folder(root, large).train.samples, first)
    (notes,) = (tmp_path / "cache").rglob("train*.json")
    notes.write_text("{")
    assert np.array_equal(read_image_folder(root, large).train.samples, first)


def _made_rows(place, barrier, counted):
    def make(file):
        with counted.get_lock():
            counted.value += 1
        time.sleep(0.05)
        file.write(bytes(range(12)))
        return {"rows": 3}

    barrier.wait()
    rows, _ = mapped.mapped_rows(place, (4,), make, 3)
    assert rows.tolist() == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10, 11]]


def test_of_two_processes_one_makes_a_file(tmp_path):
    forks = multiprocessing.get_context("fork")
    barrier, counted = forks.Barrier(2), forks.Value("i", 0)
    arguments = (tmp_path / "kept/rows", barrier, counted)
    processes = [forks.Process(target=_made_rows, args=arguments) for _ in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0, 0]
    assert counted.value == 1


def test_the_folder_is_its_owner_s_alone(tmp_path, large):
    read_image_folder(folder(tmp_path / "data"), large)
    assert (tmp_path / "cache").stat().st_mode & 0o777 == 0o700


def test_a_full_disk_is_told(tmp_path, large, monkeypatch):
    monkeypatch.setattr(mapped.shutil, "disk_usage", lambda path: type("Usage", (), {"free": 9}))
    with pytest.raises(DataError, match=r"cannot be kept \(.* has 9 bytes free, 864 are needed\)"):
        read_image_folder(folder(tmp_path / "data"), large)


def test_threads_keep_the_order_and_tell_how_far_they_are(tmp_path, monkeypatch, caplog):
    root = folder(tmp_path / "data", count=40)
    plain = read_image_folder(root)
    monkeypatch.setattr(progress, "FEW", 0)
    monkeypatch.setattr(progress, "PERIOD", -1.0)
    monkeypatch.setattr(progress, "_cores", lambda: 3)
    with caplog.at_level(logging.INFO, logger="flwr"):
        threaded = read_image_folder(root)
    assert np.array_equal(threaded.train.samples, plain.train.samples)
    assert "looking through images: 80 of 80" in caplog.text
    assert "preparing images: 80 of 80" in caplog.text


def test_a_large_client_is_outlined_without_decoding(tmp_path, large, monkeypatch):
    root = folder(tmp_path / "data", count=8)
    settings = Settings.from_run_config({"scenario": "own", "dataset": "image-folder"})
    node = {"data-path": str(root), "client-name": "ward", "cache-path": large.cache}
    real = preparation.decode
    monkeypatch.setattr(preparation, "decode", None)
    outline = own.outline_own_data(settings, node)
    monkeypatch.setattr(preparation, "decode", real)
    data = load_client_data(settings, node)
    assert outline == ("ward", ("ape", "bee"), ImageForm(1, 8, 9).spec, 12, 4, 0)
    assert (len(data.train), len(data.test)) == (12, 4)
    assert isinstance(data.test.samples, np.memmap)
    monkeypatch.setattr(preparation, "IN_MEMORY", 2**20)
    own._listed.cache_clear()
    assert own.outline_own_data(settings, node) is None


def test_nothing_is_chosen_of_mapped_rows(tmp_path, large):
    parts = read_image_folder(folder(tmp_path / "data"), large)
    none = parts.train.select(np.array([], dtype=np.int64))
    assert isinstance(none, LabelledSamples)
    assert none.samples.shape == (0, 1, 8, 9)


def test_rows_chosen_of_a_slice_are_the_slice_s(tmp_path, large):
    samples = read_image_folder(folder(tmp_path / "data"), large).train.samples
    chosen = np.array([2, 0])
    for start in (0, 5):
        found = mapped.taken(samples[start : start + 5], chosen)
        assert np.array_equal(found, samples[[start + 2, start]])

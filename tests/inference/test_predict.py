import csv
import zipfile
from pathlib import Path

import numpy as np
import pytest
from digit_runs import CLIENT
from PIL import Image

from feddag_flwr.data.folders import read_image_folder
from feddag_flwr.data.images.form import ImageForm
from feddag_flwr.data.samples import DataError
from feddag_flwr.inference.pictures import BATCH, read_batches
from feddag_flwr.inference.predict import Prediction, accuracy_line
from feddag_flwr.inference.served import load_served
from feddag_flwr.launcher import main

GREY, COLOUR = ImageForm(1, 8, 8), ImageForm(3, 8, 8)


def predict(run, *arguments, client=CLIENT):
    return main(["predict", str(run.path), "--client", client, *map(str, arguments)])


def read(paths, form=GREY, names=("0", "1")):
    return list(read_batches(paths, form, names))


# -- with a real run -------------------------------------------------------------------------------


def test_the_accuracy_is_the_one_that_the_run_saw(feddag, archive, capsys):
    assert predict(feddag, archive) == 0
    told = capsys.readouterr()
    lines = [line.split("\t") for line in told.out.splitlines()]
    test = feddag.data.test
    assert [line[0] for line in lines] == [
        f"{archive}:images[{index}]" for index in range(len(test))
    ]
    right = [feddag.data.class_names[label] for label in test.labels]
    accuracy = np.mean([line[1] == label for line, label in zip(lines, right, strict=True)])
    assert accuracy == pytest.approx(feddag.evaluated["accuracy"])
    assert 0.5 < accuracy <= 1
    assert f"accuracy {feddag.evaluated['accuracy']:.2%}" in told.err
    assert f"balanced {feddag.evaluated['balanced-accuracy']:.2%}" in told.err
    assert all(0.1 <= float(line[2]) <= 1 for line in lines)


def test_a_client_with_a_model_of_its_own_gets_that(fedsoft, archive, capsys):
    assert load_served(fedsoft.path, client=CLIENT).personal
    assert predict(fedsoft, archive) == 0
    accuracy, balanced = fedsoft.evaluated["accuracy"], fedsoft.evaluated["balanced-accuracy"]
    assert f"accuracy {accuracy:.2%}, balanced {balanced:.2%}" in capsys.readouterr().err
    cluster = str(fedsoft.checkpoint.state.assignments[CLIENT])
    assert main(["predict", str(fedsoft.path), "--cluster", cluster, str(archive)]) == 0
    assert f"accuracy {accuracy:.2%}" not in capsys.readouterr().err


def test_a_folder_of_folders_gives_the_same(feddag, tree, tmp_path, capsys):
    output = tmp_path / "labels.csv"
    assert predict(feddag, tree, "--output", output) == 0
    told = capsys.readouterr()
    assert told.out == ""
    with output.open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [row["path"] for row in rows] == sorted(str(path) for path in tree.rglob("*.png"))
    assert {row["truth"] for row in rows} == {path.name for path in (tree / "deep").iterdir()}
    accuracy = np.mean([row["label"] == row["truth"] for row in rows])
    assert f"{len(rows)} images, {len(rows)} of a known class" in told.err
    assert f"accuracy {accuracy:.2%}" in told.err
    assert accuracy == pytest.approx(feddag.evaluated["accuracy"], abs=1.5 / len(rows))


def test_single_images_of_unknown_class(feddag, tree, tmp_path, capsys):
    one = tmp_path / "mine.PNG"
    one.write_bytes(next(tree.rglob("*.png")).read_bytes())
    assert predict(feddag, one, one) == 0
    told = capsys.readouterr()
    assert told.err == "2 images\n"
    first, second = told.out.splitlines()
    assert first == second
    assert first.startswith(f"{one}\t")


def test_a_cluster_s_model_can_be_used_too(feddag, archive, capsys):
    cluster = str(feddag.checkpoint.state.assignments[CLIENT])
    assert main(["predict", str(feddag.path), "--cluster", cluster, str(archive)]) == 0
    by_cluster = capsys.readouterr().out
    predict(feddag, archive)
    assert capsys.readouterr().out == by_cluster


def test_faults_end_with_a_message_and_status_2(feddag, tmp_path, capsys):
    assert predict(feddag, tmp_path / "gone.png") == 2
    assert "gone.png: no such file or folder" in capsys.readouterr().err
    assert predict(feddag, tmp_path, client="client-O") == 2
    assert "no client 'client-O'; did you mean 'client-" in capsys.readouterr().err
    assert main(["predict", str(tmp_path), "--cluster", "0", "x.png"]) == 1
    assert "no checkpoint in" in capsys.readouterr().err


# -- reading ---------------------------------------------------------------------------------------


def save(path, mode, size=(8, 8)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, 128 if mode in {"L", "1", "I;16"} else None).save(path)
    return path


def test_images_of_other_forms_are_prepared_as_in_training(tmp_path):
    """The same files, read by a client and by predict."""
    rng = np.random.default_rng(0)
    (tmp_path / "a").mkdir()
    for index, size in enumerate([(8, 9), (20, 11), (8, 8), (30, 31)]):
        pixels = rng.integers(0, 256, (*size, 3), dtype=np.uint8)
        image = Image.fromarray(pixels)
        (image if index % 2 else image.convert("L")).save(tmp_path / f"a/{index}.png")
    Image.fromarray(rng.integers(0, 4096, (9, 9)).astype(np.uint16)).save(tmp_path / "a/5.png")
    for form in (ImageForm(1, 8, 8, 12), ImageForm(3, 16, 12, 12)):
        trained = read_image_folder(tmp_path, form=form).train.samples
        (batch,) = read([tmp_path / "a"], form)
        assert np.array_equal(batch.images, trained.astype(np.float32) / np.float32(255))


def test_a_model_of_two_channels_takes_no_files(tmp_path):
    path = save(tmp_path / "x.png", "L")
    with pytest.raises(DataError, match="takes 2 channels, which no files have"):
        read([path], ImageForm(2, 8, 8))


def test_predictions_go_on_past_a_broken_picture(feddag, tree, tmp_path, capsys):
    files, mine = sorted(tree.rglob("*.png"))[:3], tmp_path / "mine"
    mine.mkdir()
    for index, file in enumerate(files, start=1):
        (mine / f"0{index}.png").write_bytes(file.read_bytes())
    (mine / "00.png").write_bytes(files[0].read_bytes()[:60])
    output = tmp_path / "labels.csv"
    assert predict(feddag, mine, "--output", output) == 0
    told = capsys.readouterr().err
    assert "4 images, 1 of which cannot be read" in told
    with output.open(newline="") as stream:
        broken, *rest = csv.DictReader(stream)
    assert broken["path"] == str(mine / "00.png")
    assert "not a readable image" in broken["error"]
    assert broken["label"] == broken["probability"] == broken["probability of 3"] == ""
    for row in rest:
        of_classes = [float(row[f"probability of {name}"]) for name in "0123456789"]
        assert sum(of_classes) == pytest.approx(1, abs=1e-5)
        assert of_classes[int(row["label"])] == max(of_classes) == float(row["probability"])
        assert row["error"] == ""
    assert predict(feddag, mine / "00.png") == 2
    assert capsys.readouterr().out.startswith(f"{mine / '00.png'}\t\t\t")


def test_deep_pictures_need_a_range_that_the_model_knows(tmp_path):
    Image.fromarray(np.full((8, 8), 4000, np.uint16)).save(tmp_path / "deep.png")
    (batch,) = read([tmp_path], ImageForm(1, 8, 8))
    assert "more than 8 bits a channel, which no image of the federation has" in batch.errors[0]
    (batch,) = read([tmp_path], ImageForm(1, 8, 8, 12))
    assert np.allclose(batch.images, 249 / 255)


def test_grey_images_will_do_for_a_colour_model(tmp_path):
    save(tmp_path / "a.png", "L")
    save(tmp_path / "b.png", "RGBA")
    (batch,) = read([tmp_path], COLOUR)
    assert batch.images.shape == (2, 3, 8, 8)
    assert np.allclose(batch.images[0], 128 / 255)


def test_folders_are_read_with_all_below_in_the_order_of_names(tmp_path):
    for name in ("b/1/x.png", "a.jpg", "b/0/y.JPEG", "b/.hidden/z.png", ".z.png"):
        save(tmp_path / name, "L")
    (tmp_path / "b" / "notes.txt").write_text("x")
    (batch,) = read([tmp_path])
    assert batch.names == [str(tmp_path / name) for name in ("a.jpg", "b/0/y.JPEG", "b/1/x.png")]
    assert batch.truths == [None, "0", "1"]
    assert batch.images.dtype == np.float32


def test_the_folder_that_is_given_can_be_the_class(tmp_path, monkeypatch):
    save(tmp_path / "1" / "x.png", "L")
    monkeypatch.chdir(tmp_path / "1")
    assert read([Path("x.png")])[0].truths == ["1"]


def test_many_images_come_in_batches(tmp_path):
    images = np.arange(2 * BATCH + 3, dtype=np.uint8)[:, None, None] * np.ones((1, 8, 8), np.uint8)
    np.savez(tmp_path / "many.npz", images=images)
    batches = read([tmp_path / "many.npz"])
    assert [len(batch.names) for batch in batches] == [BATCH, BATCH, 3]
    found = np.concatenate([batch.images for batch in batches])[:, 0, 0, 0]
    assert np.allclose(found * 255, images[:, 0, 0])
    assert batches[-1].names[-1].endswith(f"many.npz:images[{2 * BATCH + 2}]")
    assert batches[0].truths == [None] * BATCH


def test_the_test_part_of_an_archive_is_used(tmp_path):
    path = tmp_path / "ward.npz"
    np.savez(
        path,
        images=np.zeros((2, 8, 8), np.uint8),
        labels=np.array([0, 0]),
        test_images=np.ones((3, 8, 8), np.float64),
        test_labels=np.array([1, 0, 1]),
        class_names=np.array(["cat", "dog"]),
    )
    (batch,) = read([path])
    assert batch.truths == ["dog", "cat", "dog"]
    assert (batch.images == 1).all()
    assert batch.names[0] == f"{path}:test_images[0]"


@pytest.mark.parametrize(
    ("arrays", "told"),
    [
        ({"images": np.zeros((2, 8, 8, 4), np.uint8)}, r"4 channel\(s\), which cannot become 1"),
        ({"images": np.zeros((0, 8, 8), np.uint8)}, "'images' holds no image"),
        ({"labels": np.zeros(3)}, "no array 'images'"),
        ({"images": np.full((2, 8, 8), 7.0)}, r"expected floating in \[0, 1\]"),
        ({"images": np.zeros((2, 8, 8)), "labels": np.array([0])}, "2 'images' but 1 'labels'"),
    ],
)
def test_an_archive_at_fault_is_named(tmp_path, arrays, told):
    np.savez(tmp_path / "x.npz", **arrays)
    with pytest.raises(DataError, match=f"x.npz: .*{told}"):
        read([tmp_path / "x.npz"])


def test_nothing_to_read_is_told(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"empty: no .png, .jpg, .* files in it or below"):
        read([tmp_path / "empty"])
    (tmp_path / "torn.png").write_bytes(b"\x89PNG\r\n")
    (batch,) = read([tmp_path / "torn.png"])
    assert "torn.png: not a readable image" in batch.errors[0]
    assert batch.images.shape == (0, 1, 8, 8)


def test_accuracy_is_over_the_known_ones_and_balanced_over_classes():
    rows = [("a", "a"), ("a", "a"), ("a", "a"), ("b", "a"), ("a", "b"), ("b", None)]
    predictions = [Prediction("x", label, 1.0, truth) for label, truth in rows]
    assert accuracy_line(predictions) == (
        "6 images, 5 of a known class: accuracy 60.00%, balanced 37.50%"
    )


def test_an_image_is_of_the_outermost_class_above_it(tmp_path):
    for name in ("b/1/p-3/x.png", "b/0/1/y.png", "b/p-4/z.png"):
        save(tmp_path / name, "L")
    (batch,) = read([tmp_path])
    expected = ("0/1/y.png", "1/p-3/x.png", "p-4/z.png")
    assert batch.names == [str(tmp_path / "b" / name) for name in expected]
    assert batch.truths == ["0", "1", None]
    (batch,) = read([tmp_path / "b/1"])
    assert batch.truths == ["1"]


def test_classes_are_known_in_any_unicode_form(tmp_path):
    save(tmp_path / "cafe\u0301" / "x.png", "L")
    (batch,) = read([tmp_path], names=("caf\u00e9",))
    assert batch.truths == ["caf\u00e9"]


def test_odd_archives_end_with_one_line_and_status_2(feddag, tmp_path, capsys):
    with zipfile.ZipFile(tmp_path / "odd.npz", "w") as archive:
        archive.writestr("images", b"no array")
    assert predict(feddag, tmp_path / "odd.npz") == 2
    told = capsys.readouterr().err
    assert told.count("\n") == 1
    assert f"{tmp_path / 'odd.npz'}: not a readable .npz archive" in told

"""The command check-data, on good and bad data, and against what a client really sends."""

import zipfile

import numpy as np
import pytest
from flwr.app import Context, Message, RecordDict
from PIL import Image

from client_app.app import app
from feddag_flwr.algorithms.feddag.messages import DualTrainRequest, ProfileRequest
from feddag_flwr.data.scenarios import load_client_data
from feddag_flwr.data_check.disclosure import class_vectors, disclosures
from feddag_flwr.data_check.inspection import inspect_data, kind_of
from feddag_flwr.launcher import main
from feddag_flwr.models.flat import get_parts
from feddag_flwr.models.registry import build_model
from feddag_flwr.records import RequestHeader
from feddag_flwr.settings import Settings

NAMES = ("ape", "bee", "cat")


def noise(count, seed=0, side=8):
    return np.random.default_rng(seed).integers(0, 256, (count, side, side), dtype=np.uint8)


def archive(path, labels, images=None, names=NAMES, **arrays):
    images = noise(len(labels)) if images is None else images
    if names:
        arrays["class_names"] = np.array(names)
    np.savez(path, images=images, labels=np.array(labels), **arrays)
    return path


def pictures(root, counts, seed=0, **sizes):
    for name, count in counts.items():
        (root / name).mkdir(parents=True, exist_ok=True)
        for index, pixels in enumerate(noise(count, seed, sizes.get(name.split("/")[-1], 8))):
            Image.fromarray(pixels).save(root / name / f"{index}.png")
        seed += 1
    return root


def settings_of(path, **changes):
    named = {key.replace("_", "-"): value for key, value in changes.items()}
    return Settings.from_run_config({**named, "scenario": "own", "dataset": kind_of(path)})


def inspected(path, name="ward-3", **changes):
    return inspect_data(path, name, settings_of(path, **changes))


def one(sentences, *words):
    """Return the one sentence that has all these words."""
    found = [each for each in sentences if all(word in each for word in words)]
    assert len(found) == 1, (words, sentences)
    return found[0]


# -- good data ---------------------------------------------------------------------------------


def test_good_data_has_nothing_to_say_about(tmp_path):
    found = inspected(archive(tmp_path / "a.npz", [0, 1, 2] * 8))
    assert (found.faults, found.warnings) == ([], [])
    assert found.split_made
    assert (len(found.data.train), len(found.data.test)) == (18, 6)
    given = archive(
        tmp_path / "b.npz", [0, 1, 2] * 8, test_images=noise(3, 9), test_labels=np.array([0, 1, 2])
    )
    found = inspected(given)
    assert (found.faults, found.warnings, found.split_made) == ([], [], False)


def test_the_command_tells_good_data(tmp_path, capsys):
    root = pictures(tmp_path / "ward[1]", {f"train/{name}": 9 for name in NAMES})
    pictures(root, {f"test/{name}": 4 for name in NAMES}, seed=50)
    picture = tmp_path / "vectors.png"
    assert main(["check-data", str(root), "--picture", str(picture)]) == 0
    told = capsys.readouterr().out
    assert "client 'ward[1]'" in told
    assert "folder of images with train and test" in told
    assert "1 x 8 x 8 (channels, height, width): grey" in told
    assert "The data is good." in told
    with Image.open(picture) as image:
        assert image.width > 500
        assert np.asarray(image.convert("L")).std() > 10


def test_the_command_tells_bad_data(tmp_path, capsys):
    assert main(["check-data", str(tmp_path / "gone.npz")]) == 1
    assert "no such file or folder" in capsys.readouterr().out
    (tmp_path / "a.txt").write_text("x")
    assert main(["check-data", str(tmp_path / "a.txt")]) == 1
    assert "neither an .npz archive nor a folder" in capsys.readouterr().out
    path = archive(tmp_path / "a.npz", [0, 1, 2] * 8)
    names = ["--client-name", "ward-3", "--run-config", 'class-names="ape,Bee"']
    assert main(["check-data", str(path), *names]) == 1
    told = " ".join(capsys.readouterr().out.split())
    assert "unusable: client 'ward-3': class 'bee' is none of the federation's" in told
    assert "'bee' and 'Bee' differ in case" in told


def test_a_wrong_setting_is_a_wrong_command_line(tmp_path, capsys):
    path = archive(tmp_path / "a.npz", [0, 1] * 8)
    assert main(["check-data", str(path), "--run-config", "subspace-sice=2"]) == 2
    assert "did you mean 'subspace-size'" in capsys.readouterr().err


# -- what cannot be used -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("labels", "arrays", "message"),
    [
        ([0, 1, 3], {}, "label 3 is out of range for 3 'class_names'"),
        ([0, -1, 1], {}, "labels[1] = -1; expected a whole number"),
        ([0, 1], {"images": np.full((2, 4, 4), np.nan)}, "2 of 2 have NaN or infinite pixels"),
        ([0, 1, 2], {}, "has no test part and none can be held out of 3 sample"),
        ([], {"images": np.zeros((0, 4, 4), np.uint8)}, "no train images"),
    ],
)
def test_archives_that_cannot_be_used(tmp_path, labels, arrays, message):
    labels = np.array(labels, dtype=np.int64)
    found = inspected(archive(tmp_path / "a.npz", labels, **arrays))
    assert found.data is None
    assert message in one(found.faults, str(tmp_path))


def test_every_file_that_cannot_be_read_is_named(tmp_path):
    pictures(tmp_path, {"ape": 3, "bee": 2, "cat": 7})
    for index in range(7):
        (tmp_path / f"ape/x{index}.png").write_bytes(b"no image")
    found = inspected(tmp_path, on_bad_file="refuse")
    broken = one(found.faults, "7 files cannot be read: ape/x0.png, ")
    assert broken.endswith("ape/x4.png and 2 more")
    skipped = inspected(tmp_path)
    assert skipped.faults == []
    assert broken in skipped.warnings
    assert len(skipped.data.train) + len(skipped.data.test) == 12


def test_what_becomes_of_other_sizes_and_of_16_bits_is_told(tmp_path, capsys):
    pictures(tmp_path, {"ape": 3, "bee": 2, "cat": 7}, bee=9, cat=6)
    deep = np.full((6, 6), 1023, np.uint16)
    Image.fromarray(deep).save(tmp_path / "cat/7.png")
    found = inspected(tmp_path)
    assert found.faults == []
    assert found.changes == [
        "images of 3 sizes, width x height: 6 x 6 (8), 8 x 8 (3), 9 x 9 (2); all become 6 x 6",
        "1 of 13 files have more than 8 bits a channel: 0 to 1023 becomes 0 to 255",
    ]
    assert found.data.train.samples.shape[1:] == (1, 6, 6)
    assert main(["check-data", str(tmp_path), "--run-config", "image-size=12"]) == 0
    told = " ".join(capsys.readouterr().out.split())
    assert "all become 12 x 12" in told
    assert "1 x 12 x 12 (channels, height, width)" in told


def test_an_empty_class_folder_is_told(tmp_path):
    pictures(tmp_path, {"ape": 3})
    (tmp_path / "bee").mkdir()
    found = inspected(tmp_path)
    assert found.faults == []
    assert one(found.warnings, "no train images of") == "no train images of 'bee'"
    assert found.data.class_names == ("ape", "bee")


def test_what_the_server_would_refuse_is_told(tmp_path):
    path = archive(tmp_path / "a.npz", [0, 1] * 8)
    assert "would refuse this client: client = 'a\\n' is no name" in one(
        inspected(path, name="a\n").faults
    )
    message = one(inspected(path, max_client_samples=5).faults)
    assert "train-samples = 12 is outside 1..5" in message


# -- what deserves a look ----------------------------------------------------------------------


def test_small_classes_and_imbalance(tmp_path):
    path = archive(tmp_path / "a.npz", [0] * 80 + [1] * 2 + [2])
    found = inspected(path)
    assert found.faults == []
    bare = one(found.warnings, "no more training images than principal vectors")
    assert "'bee' (1), 'cat' (1); min-subspace-samples = 2 would" in bare
    assert "60 training images of 'ape', 1 of 'bee'" in one(found.warnings, "heavy imbalance")
    assert "never judged: cat" in one(found.warnings, "without a test image")
    kept = inspected(path, min_subspace_samples=2).warnings
    assert "'bee' (1), 'cat' (1)" in one(kept, "send no principal vectors")
    assert not [each for each in kept if "together again" in each]


def test_images_of_one_colour_are_named(tmp_path):
    images = noise(24)
    images[[3, 20]] = 77
    found = inspected(archive(tmp_path / "a.npz", [0, 1] * 12, images))
    sentence = one(found.warnings, "2 images of one grey level or colour only: ")
    assert {"images[3]", "images[20]"} == set(sentence.split(": ")[1].split(", "))


def test_test_images_that_are_trained_on_are_named(tmp_path):
    images = noise(8)
    path = archive(
        tmp_path / "a.npz", [0, 1] * 4, images,
        test_images=np.stack([images[5], noise(1, 7)[0]]), test_labels=np.array([1, 0]),
    )  # fmt: skip
    sentence = one(inspected(path).warnings, "1 test image of 2 also in the training part")
    assert "images[5] = test_images[0]" in sentence


def test_classes_that_are_tested_only_are_named(tmp_path):
    labels = {"test_images": noise(3, 7), "test_labels": np.array([0, 1, 2])}
    found = inspected(archive(tmp_path / "a.npz", [0, 1] * 8, **labels))
    assert "cannot be learned here: cat" in one(found.warnings, "test images only")


def test_an_image_of_two_classes_is_named(tmp_path):
    root = pictures(tmp_path, {"train/ape": 3, "train/bee": 3, "test/ape": 1, "test/bee": 1})
    (root / "train/bee/9.png").write_bytes((root / "train/ape/1.png").read_bytes())
    sentence = one(inspected(root).warnings, "1 training image equal to one of another class")
    assert "train/ape/1.png = train/bee/9.png" in sentence


def test_images_scaled_twice_seem_dark(tmp_path):
    images = noise(16) / 255.0
    assert not inspected(archive(tmp_path / "a.npz", [0, 1] * 8, images)).warnings
    found = inspected(archive(tmp_path / "a.npz", [0, 1] * 8, images / 255))
    assert "scale of 0 to 1; were the images scaled twice" in one(found.warnings, "very dark")


def test_archives_without_class_names_are_warned_of(tmp_path):
    found = inspected(archive(tmp_path / "a.npz", [0, 1] * 8, names=()))
    assert "class '1' is the same as any other client's" in one(found.warnings, "'class_names'")


def test_files_passed_over_and_mixed_colours_are_told(tmp_path):
    pictures(tmp_path, {"ape": 6, "bee": 6})
    Image.new("RGB", (8, 8), (9, 8, 7)).save(tmp_path / "bee/7.png")
    (tmp_path / "bee/8.dcm").write_bytes(b"")
    (tmp_path / "ape/list").write_text("")
    found = inspected(tmp_path)
    assert "2 files passed over (1 .dcm, 1 no suffix)" in one(found.warnings, "passed over")
    assert "12 of 13 files are grey" in one(found.warnings, "all become RGB")


def test_class_names_that_differ_in_writing_only_are_named(tmp_path):
    path = archive(tmp_path / "a.npz", [0, 1, 2] * 8, names=("ape", "Ape", "bee"))
    assert "class names 'ape' and 'Ape' differ" in one(inspected(path).warnings, "class names")


def test_images_in_folders_below_a_class_are_read_and_others_counted(tmp_path):
    pictures(tmp_path, {"train/ape": 3, "train/ape/p-1": 7, "train/bee/p-1/scan": 9, "val/ape": 4})
    pictures(tmp_path, {"test/ape/p-2": 2, "test/bee": 2}, seed=50)
    (tmp_path / "train/bee/p-1/notes.txt").write_text("x")
    found = inspected(tmp_path)
    assert found.faults == []
    assert (len(found.data.train), len(found.data.test)) == (19, 4)
    sentence = one(found.warnings, "5 files passed over (4 .png, 1 .txt): train/bee/p-1/notes.txt,")
    assert "val/ape/0.png" in sentence


def test_a_broken_file_among_grey_ones_is_the_only_one_told(tmp_path):
    pictures(tmp_path, {"ape": 8, "bee": 8})
    (tmp_path / "bee/9.png").touch()
    found = inspected(tmp_path, on_bad_file="refuse")
    assert found.warnings == []
    assert found.faults == ["1 file cannot be read: bee/9.png"]
    Image.new("I;16", (9, 9)).save(tmp_path / "bee/8.png")
    whole = (tmp_path / "bee/8.png").read_bytes()
    (tmp_path / "bee/8.png").write_bytes(whole[: len(whole) // 2])  # its header can be read
    found = inspected(tmp_path)
    assert found.faults == []
    assert found.warnings == ["2 files cannot be read: bee/8.png, bee/9.png"]


def test_arrays_passed_over_are_told(tmp_path):
    path = tmp_path / "a.npz"
    arrays = {"train": noise(24), "val": noise(6, 2), "test": noise(6, 3)}
    np.savez(
        path, class_names=np.array(NAMES),
        **{f"{part}_images": images for part, images in arrays.items()},
        **{f"{part}_labels": np.arange(len(images)) % 3 for part, images in arrays.items()},
    )  # fmt: skip
    found = inspected(path)
    assert (found.faults, found.split_made) == ([], False)
    assert found.warnings == [
        "2 arrays passed over: val_images, val_labels; "
        "read are train_images, train_labels, test_images, test_labels"
    ]


def test_findings_call_images_by_the_arrays_that_they_come_from(tmp_path):
    images = noise(24)
    np.savez(
        tmp_path / "a.npz", X_train=images, y_train=np.arange(24) % 3,
        X_val=images[[5]], y_val=np.array([2]), class_names=np.array(NAMES),
    )  # fmt: skip
    sentence = one(inspected(tmp_path / "a.npz").warnings, "also in the training part")
    assert sentence.endswith("X_train[5] = X_val[0]")


@pytest.mark.parametrize("algorithm", ["feddag", "fedavg"])
@pytest.mark.parametrize("kind", ["npz", "folder"])
def test_images_too_small_for_the_model_are_unusable(tmp_path, capsys, kind, algorithm):
    if kind == "npz":
        path = archive(tmp_path / "tiny.npz", [0, 1, 2] * 8, noise(24, side=2))
    else:
        path = pictures(tmp_path / "tiny", {"ape": 6, "bee": 6}, ape=2, bee=2)
    assert main(["check-data", str(path), "--run-config", f'algorithm="{algorithm}"']) == 1
    told = capsys.readouterr()
    assert f"unusable: {path}: images of 2 x 2 pixels (width x height) cannot be trained on: " in (
        told.out
    )
    assert "needs images of 4 x 4 pixels at least" in told.out
    assert told.err == ""


def test_a_model_that_is_none_is_a_wrong_command_line_still(tmp_path, capsys):
    path = archive(tmp_path / "a.npz", [0, 1, 2] * 8)
    assert main(["check-data", str(path), "--run-config", 'model="no.such:thing"']) == 2
    assert "setting model = 'no.such:thing'" in capsys.readouterr().err


def test_an_odd_archive_is_unusable_in_one_line(tmp_path, capsys):
    with zipfile.ZipFile(tmp_path / "odd.npz", "w") as members:
        members.writestr("images", b"no array")
        members.writestr("labels", b"no array")
    assert main(["check-data", str(tmp_path / "odd.npz")]) == 1
    told = capsys.readouterr()
    assert f"unusable: {tmp_path / 'odd.npz'}: not a readable .npz" in told.out
    assert told.err == ""


# -- what the server learns --------------------------------------------------------------------


def ask(path, settings, request, kind):
    node = {"data-path": str(path), "client-name": "ward-3"}
    context = Context(1, 7, node, RecordDict(), settings.to_run_config())
    return app(Message(request.encode(), 7, kind), context).content


def test_disclosures_are_what_the_client_sends(tmp_path):
    """Bytes and vectors, against the replies of the real ClientApp."""
    path = archive(tmp_path / "a.npz", [0, 0, 1, 2, 2] * 9)
    settings = settings_of(path, warmup_epochs=1, local_epochs=1, max_class_samples=5)
    found = inspect_data(path, "ward-3", settings)
    vectors = class_vectors(found.data, settings)
    items = {item.what: item for item in disclosures(found.data, vectors, settings)}

    header = RequestHeader("ward-3", 1, NAMES, (1, 8, 8), ((0.5, 0.3),))
    single = get_parts(build_model("auto", (1, 8, 8), 3, dual=False, seed=1))
    sent = ask(
        path,
        settings,
        ProfileRequest(header, single, 5, settings.profile.gradient_fraction),
        "train.profile",
    )
    arrays = sent.array_records["arrays"]
    expected = np.concatenate([each.vectors for each in vectors])
    assert (arrays["vectors"].numpy() == expected).all()
    sizes = {name: len(array.data) for name, array in arrays.items()}
    assert items["count of each class"].nbytes == sizes.pop("counts")
    assert items["sparse update"].nbytes == sizes.pop("update")
    of_vectors = sizes.pop("vectors") + sizes.pop("vector-classes")
    assert items["principal vectors"].nbytes == of_vectors
    assert items["trained encoder"].nbytes == sum(sizes.values())

    dual = get_parts(build_model("auto", (1, 8, 8), 3, dual=True, seed=1))
    request = DualTrainRequest(
        header, dual | {"transfer": dual["secondary"]}, ("primary", "secondary")
    )
    sent = ask(path, settings, request, "train.dual")
    total = sum(len(array.data) for array in sent.array_records["arrays"].values())
    told = [items[what].nbytes for what in ("trained model", "trained second encoder", "counts")]
    assert sum(told) == total + 8  # and the loss, which is no array


def test_what_settings_add_to_the_profile_is_told(tmp_path):
    path = archive(tmp_path / "a.npz", [0, 0, 1, 2, 2] * 9)
    settings = settings_of(path, unlabelled="place", looks_level=1e-6)
    data = inspect_data(path, "ward-3", settings).data
    items = {item.what: item for item in disclosures(data, class_vectors(data, settings), settings)}
    # Ten vectors of 64 numbers and their shares; 3 classes of 39 numbers and 32 x 32.
    assert items["principal vectors of all images together"].nbytes == 2 * 128 + 10 * (64 * 4 + 8)
    assert items["looks of the classes"].nbytes == 128 + 8 * (3 * 39 + 32**2)


def test_data_without_labels_can_be_placed_and_cannot_train(tmp_path):
    images = noise(12)
    np.savez(tmp_path / "a.npz", images=images)
    folder = tmp_path / "b"
    folder.mkdir()
    for number, image in enumerate(images):
        Image.fromarray(image).save(folder / f"{number}.png")
    for path in (tmp_path / "a.npz", folder):
        found = inspect_data(path, "", settings_of(path))
        assert (found.data, found.faults) == (None, [])
        (note,) = found.warnings
        assert "no labels: can be placed, cannot train (12 images; the run needs unlabelled" in note


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({}, "a second encoder, which clients of all clusters train and receive until some part"),
        (
            {"teacher-clusters": "all"},
            "a second encoder, which clients of all clusters train and receive",
        ),
        ({"secondary": "own"}, "a second encoder, which your cluster alone receives"),
        ({"preset": "paper"}, "another cluster's encoder, where other clusters learn from the"),
        ({"secondary": "none"}, None),
        ({"encoders": "one"}, None),
    ],
)
def test_who_receives_the_second_encoder_is_told(tmp_path, changes, told):
    path = archive(tmp_path / "a.npz", [0, 0, 1, 2, 2] * 9)
    settings = settings_of(path, **changes)
    data = inspect_data(path, "ward-3", settings).data
    found = [
        item.content
        for item in disclosures(data, class_vectors(data, settings), settings)
        if item.what == "trained second encoder"
    ]
    assert len(found) == (told is not None)
    assert all(told in content for content in found)


@pytest.mark.parametrize(
    ("encoders", "told"),
    [("two", "weights of the encoder, "), ("one", "weights of one encoder for clients of all cl")],
)
def test_that_all_clusters_train_the_one_encoder_is_told(tmp_path, encoders, told):
    path = archive(tmp_path / "a.npz", [0, 0, 1, 2, 2] * 9)
    settings = settings_of(path, encoders=encoders)
    data = inspect_data(path, "ward-3", settings).data
    items = disclosures(data, class_vectors(data, settings), settings)
    (content,) = [item.content for item in items if item.what == "trained model"]
    assert told in content


def test_likeness_tells_how_near_vectors_come_to_an_image(tmp_path):
    path = archive(tmp_path / "a.npz", [0] * 12 + [1, 1], noise(14))
    settings = settings_of(path, test_fraction=0.4, min_subspace_samples=1)
    found = inspect_data(path, "ward-3", settings)
    many, single = class_vectors(found.data, settings)
    assert (len(many.vectors), len(single.vectors)) == (3, 1)
    assert single.likeness == pytest.approx(1.0, abs=1e-6)
    images = found.data.train.samples[found.data.train.labels == 0].reshape(-1, 64) / 255
    cosines = np.abs(images @ many.vectors.T) / np.linalg.norm(images, axis=1, keepdims=True)
    assert many.likeness == pytest.approx(cosines.max(), abs=1e-6)
    assert 0.5 < many.likeness < 0.99
    kept_back = class_vectors(found.data, settings.changed({"min-subspace-samples": 2}))
    assert (len(kept_back[1].vectors), kept_back[1].likeness) == (0, 0.0)


def smooth(seed, side=64):
    """A picture as photographs are: most of it changes slowly."""
    coarse = Image.fromarray(noise(1, seed, 7)[0])
    return coarse.resize((side, side), Image.Resampling.BICUBIC)


def test_copies_of_another_size_or_encoding_are_found(tmp_path):
    for part, seeds in (("train/ape", range(12)), ("train/bee", range(50, 62)),
                        ("test/ape", range(100, 104)), ("test/bee", range(104, 108))):  # fmt: skip
        (tmp_path / part).mkdir(parents=True)
        for seed in seeds:
            smooth(seed).save(tmp_path / part / f"{seed}.png")
    assert inspected(tmp_path).warnings == []
    smooth(3).save(tmp_path / "test/ape/encoded.jpg", quality=60)
    smooth(55).resize((48, 48)).save(tmp_path / "test/bee/smaller.png")
    smooth(7).save(tmp_path / "test/ape/same.png")
    warnings = inspected(tmp_path).warnings
    sentence = one(warnings, "2 test images of 11 seem to be copies")
    assert "train/ape/3.png and test/ape/encoded.jpg" in sentence
    assert "train/bee/55.png and test/bee/smaller.png" in sentence
    assert "train/ape/7.png = test/ape/same.png" in one(warnings, "also in the training part")


def test_vectors_of_large_images_are_those_of_small_ones(tmp_path):
    (tmp_path / "ape").mkdir()
    for seed in range(8):
        smooth(seed, 96).convert("RGB").save(tmp_path / f"ape/{seed}.png")
    settings = settings_of(tmp_path, model="small")
    data = inspect_data(tmp_path, "ward-3", settings).data
    vectors = class_vectors(data, settings)
    assert vectors[0].vectors.shape == (3, 3 * 32 * 32)
    assert 0.9 < vectors[0].likeness <= 1
    found = [i.content for i in disclosures(data, vectors, settings) if i.what.startswith("princ")]
    assert "subspaces are of samples made small: 3,072 values of 27,648" in found[0]
    picture = tmp_path / "vectors.png"
    arguments = ["check-data", str(tmp_path), "--picture", str(picture), "--run-config"]
    assert main([*arguments, 'model="small"']) == 0
    assert picture.is_file()
    picture.unlink()
    assert main([*arguments, 'model="small" view="projected"']) == 0
    assert not picture.exists()


def test_what_is_held_back_from_training_is_counted(tmp_path, capsys):
    path = archive(tmp_path / "a.npz", [0, 1, 2] * 8)
    share = ["--client-name", "ward-3", "--run-config", "validation-share=0.34"]
    assert main(["check-data", str(path), *share]) == 0
    told = " ".join(capsys.readouterr().out.split())
    assert "held back │ 6 (validation-share = 0.34); 12 remain to train on" in told
    settings = settings_of(path, validation_share=0.34)
    found = inspect_data(path, "ward-3", settings).data
    used = load_client_data(settings, {"data-path": str(path), "client-name": "ward-3"})
    assert (found.train.samples == used.train.samples).all()
    assert (found.validation.samples == used.validation.samples).all()
    assert "12 to train, 6 to test" in {
        item.content for item in disclosures(found, class_vectors(found, settings), settings)
    }
    assert "held back" not in tell(capsys, path)


def tell(capsys, path):
    assert main(["check-data", str(path)]) == 0
    return capsys.readouterr().out

"""Clients with images of other sizes and modes: brought to one form, and nobody left out."""

import json
import logging

import numpy as np
import pytest
from memory_grid import MemoryGrid, quick_settings, run_quickly
from PIL import Image

from feddag_flwr.checkpoints import newest_checkpoint
from feddag_flwr.data import own
from feddag_flwr.data.images import preparation
from feddag_flwr.data.images.form import ImageForm
from feddag_flwr.modalities import ModalityError, load_modality
from feddag_flwr.modalities.base import SampleSpec

SITES = {"a": ((16, 16), "L"), "b": ((24, 20), "L"), "c": ((16, 16), "RGB")}


def site(root, size, mode, count=12, seed=0):
    """Two kinds of pictures, bright above and bright on the left, with noise."""
    rng = np.random.default_rng(seed)
    for label, name in enumerate(("above", "left")):
        (root / name).mkdir(parents=True, exist_ok=True)
        for index in range(count):
            pixels = rng.integers(0, 100, (size[1], size[0]))
            part = pixels[: size[1] // 2] if label == 0 else pixels[:, : size[0] // 2]
            part += 120
            Image.fromarray(pixels.astype(np.uint8)).convert(mode).save(
                root / name / f"{index}.png"
            )


@pytest.fixture
def sites(tmp_path):
    for number, (name, (size, mode)) in enumerate(SITES.items()):
        site(tmp_path / "sites" / name, size, mode, seed=number)
    return tmp_path / "sites"


def settings_of(sites, **changes):
    return {
        "dataset": "image-folder", "scenario": "own", "data_dir": str(sites), "num_clients": 3,
        "client_groups": 1, "participation": 1.0, "algorithm": "fedavg", "batch_size": 16,
        "model": "small",
    } | changes  # fmt: skip


def test_two_sites_and_a_third_train_together(tmp_path, sites, caplog):
    with caplog.at_level(logging.INFO, logger="flwr"):
        strategy, grid = run_quickly(tmp_path, **settings_of(sites), observers="checkpoints")
    state = strategy.state
    assert sorted(state.clients) == ["a", "b", "c"]
    assert state.spec == SampleSpec((1, 16, 16))
    assert "left out" not in caplog.text
    assert "samples are 16 x 16 with 1 channel(s), the most common; 2 of 3 clients" in caplog.text
    describes = [node for action, node in grid.sent if action == "query.describe"]
    assert sorted(describes) == [101, 102, 102, 103, 103]
    assert sorted(strategy.evaluator.evaluations) == ["a", "b", "c"]
    stored = newest_checkpoint(strategy.folder.path).state
    assert stored.spec == state.spec


def test_a_run_whose_sites_differ_goes_on_from_its_checkpoint(tmp_path, sites):
    options = settings_of(sites) | {"observers": "checkpoints"}
    whole, _ = run_quickly(tmp_path, name="whole", num_rounds=3, **options)
    part, _ = run_quickly(tmp_path, name="part", num_rounds=2, **options)
    resumed = settings_of(sites, resume=str(part.folder.path), num_rounds=3)
    settings = quick_settings(**resumed, observers="checkpoints", run_dir=str(tmp_path))
    from feddag_flwr.simulation import run_in_process

    run_in_process(settings)
    ended = newest_checkpoint(part.folder.path).state.models[0]
    for name, weights in newest_checkpoint(whole.folder.path).state.models[0].items():
        assert np.array_equal(weights.floats, ended[name].floats), name


def test_a_size_that_is_set_is_every_client_s(tmp_path, sites):
    changes = settings_of(sites, image_size=12, algorithm="feddag", num_rounds=1)
    strategy, grid = run_quickly(tmp_path, **changes)
    assert strategy.state.spec == SampleSpec((1, 12, 12))
    assert sorted(strategy.state.assignments) == ["a", "b", "c"]
    describes = [node for action, node in grid.sent if action == "query.describe"]
    assert sorted(describes) == [101, 102, 103, 103]  # the coloured one becomes grey


def test_many_images_are_decoded_once_it_is_known_to_what(tmp_path, sites, monkeypatch):
    monkeypatch.setattr(preparation, "IN_MEMORY", 0)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    kept, _ = run_quickly(tmp_path, name="mapped", **settings_of(sites, num_rounds=1))
    names = {path.name for path in (tmp_path / "cache").rglob("train-*.u8")}
    assert names == {"train-1-16-16-0.u8"}  # none in a site's own form
    monkeypatch.setattr(preparation, "IN_MEMORY", 2**30)
    from feddag_flwr.data import own

    own._read.cache_clear()
    own._listed.cache_clear()
    plain, _ = run_quickly(tmp_path, name="plain", **settings_of(sites, num_rounds=1))
    for name, weights in kept.state.models[0].items():
        assert np.array_equal(weights.floats, plain.state.models[0][name].floats)
    assert kept.state.sample_scale == plain.state.sample_scale


def test_who_does_not_bring_its_images_to_the_common_form_is_left_out(tmp_path, sites, caplog):
    def tamper(partition, action, reply):
        asked = reply.content.config_records.get("info")
        if partition == 1 and action == "query.describe" and asked is not None:
            asked["sample-shape"] = [1, 20, 24]  # whatever it was asked for
        return reply

    settings = quick_settings(
        **settings_of(sites, num_rounds=1), run_dir=str(tmp_path), observers="round-log"
    )
    grid = MemoryGrid(settings, tamper=tamper)
    with caplog.at_level(logging.WARNING, logger="flwr"):
        strategy, _ = run_quickly(
            tmp_path, grid=grid, **settings_of(sites, num_rounds=1), observers="round-log"
        )
    assert {"a", "c"} <= strategy.state.clients.keys()
    said = "client b is left out: samples are 20 x 24 with 1 channel(s), those of the federation 16"
    assert said in caplog.text


def test_images_of_16_bits_are_scaled_alike_everywhere(tmp_path, sites):
    for file in sorted((sites / "b").rglob("*.png")):
        pixels = np.asarray(Image.open(file), np.uint16) * 16
        Image.fromarray(pixels).save(file)
    strategy, _ = run_quickly(tmp_path, **settings_of(sites, num_rounds=1))
    assert sorted(strategy.state.clients) == ["a", "b", "c"]
    assert json.loads(strategy.state.sample_details) == {"bits": 12}


def test_classes_that_are_empty_or_tested_only_leave_the_metrics_right(tmp_path, caplog):
    root = tmp_path / "sites"
    for name in "ab":
        site(root / name / "train", (16, 16), "L", seed=ord(name))
        site(root / name / "test", (16, 16), "L", count=3, seed=ord(name) + 9)
    (root / "a/train/nobody").mkdir()
    (root / "a/test/left").rename(root / "a/test/round")
    changes = settings_of(root, num_clients=2, num_rounds=3, local_epochs=6, learning_rate=0.05)
    with caplog.at_level(logging.WARNING, logger="flwr"):
        strategy, _ = run_quickly(tmp_path, **changes)
    assert "no train images of 'nobody', 'round'" in caplog.text
    assert strategy.state.class_names == ("above", "left", "nobody", "round")
    judged = strategy.evaluator.evaluations["a"]
    assert judged.totals.tolist() == [3, 0, 0, 3]
    assert judged.value("balanced-accuracy") == judged.value("accuracy") <= 0.5
    other = strategy.evaluator.evaluations["b"]
    assert other.totals.tolist() == [3, 3, 0, 0]
    assert other.value("balanced-accuracy") > 0.5


# -- the choice ------------------------------------------------------------------------------------


def common(*forms, weights=None):
    specs = [ImageForm(*form).spec for form in forms]
    counts = np.ones(len(forms)) if weights is None else np.array(weights, float)
    return load_modality("image").agreed(specs, counts)


def test_the_common_form_is_that_of_most_samples():
    three = (1, 8, 8), (1, 9, 8), (3, 8, 8)
    assert common(*three) == SampleSpec((1, 8, 8))
    assert common(*three, weights=[1, 5, 1]) == SampleSpec((1, 9, 8))
    assert common(*three, weights=[1, 1, 9]) == SampleSpec((3, 8, 8))
    assert common((1, 9, 8), (1, 8, 8)) == common((1, 8, 8), (1, 9, 8)) == SampleSpec((1, 8, 8))
    assert common((1, 8, 8, 12), (1, 8, 8), (1, 8, 8, 10)) == ImageForm(1, 8, 8, 12).spec


def test_images_become_such_of_one_or_three_channels():
    modality = load_modality("image")
    one, two, three = (SampleSpec((channels, 8, 9)) for channels in (1, 2, 3))
    modality.check_fit(one, three)
    modality.check_fit(three, one)
    modality.check_fit(two, SampleSpec((2, 4, 4)))
    with pytest.raises(ModalityError, match=r"8 x 9 with 2 channel\(s\), those of the federation"):
        modality.check_fit(two, one)


@pytest.mark.parametrize("details", ["x", '{"bits": 9}', '{"bits": 12, "a": 1}', "{}"])
def test_details_that_say_no_bits_are_refused(details):
    with pytest.raises(ModalityError, match="must be three positive integers"):
        load_modality("image").check(SampleSpec((1, 8, 8), details))


def kept_in_files(monkeypatch, tmp_path):
    """Let all images be mapped, in a folder of the test's."""
    monkeypatch.setattr(preparation, "IN_MEMORY", 0)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def test_mapped_images_with_a_part_held_back_train_as_those_in_memory(tmp_path, sites, monkeypatch):
    changes = settings_of(sites, validation_share=0.3, keep="best-validation", evaluate_every=1)
    plain, _ = run_quickly(tmp_path, name="plain", **changes)
    own._read.cache_clear()
    own._listed.cache_clear()
    kept_in_files(monkeypatch, tmp_path)
    mapped, _ = run_quickly(tmp_path, name="mapped", **changes)
    assert list((tmp_path / "cache").rglob("rows-*.u8"))  # what is held out and back
    names = ("metrics.jsonl", "summary.json")
    for name in names:
        one, other = (tmp_path / folder / name for folder in ("plain", "mapped"))
        lines = [
            [json.loads(line) for line in path.read_text().splitlines()]
            if name.endswith("l")
            else json.loads(path.read_text())
            for path in (one, other)
        ]
        assert without_bytes(lines[0]) == without_bytes(lines[1])
    for one, other in zip(plain.state.models, mapped.state.models, strict=True):
        assert all((one[part].floats == other[part].floats).all() for part in one)
    assert mapped.state.clients["a"].train_samples == plain.state.clients["a"].train_samples


def without_bytes(found):
    """A client whose images are mapped is asked once more, which costs bytes and nothing else."""
    if isinstance(found, list):
        return [without_bytes(each) for each in found]
    told = ("bytes", "overhead")
    return {key: value for key, value in found.items() if not key.startswith(told)}


def test_large_loose_images_are_placed_in_a_whole_run(tmp_path, sites, monkeypatch):
    """A folder of images in no class, prepared in files: it has a cluster, and does not train."""
    site(tmp_path / "more", (16, 16), "L", seed=9)
    loose = sites / "d"
    loose.mkdir()
    for number, file in enumerate(sorted((tmp_path / "more").rglob("*.png"))):
        file.rename(loose / f"{number}.png")
    kept_in_files(monkeypatch, tmp_path)
    strategy, grid = run_quickly(
        tmp_path,
        **settings_of(sites, num_clients=4, algorithm="feddag", unlabelled="place", num_rounds=2),
    )
    assert sorted(strategy.state.clients) == ["a", "b", "c"]
    placed = strategy.context.unlabelled["d"]
    assert placed.samples == 24
    assert 0 <= placed.cluster < strategy.state.num_clusters
    asked = {action for action, node in grid.sent if node == strategy.context.clients.nodes["d"]}
    assert asked == {"query.describe", "query.directions"}
    summary = json.loads((tmp_path / "run/summary.json").read_text())
    assert summary["unlabelled"]["d"]["samples"] == 24
    assert "left-out" not in summary

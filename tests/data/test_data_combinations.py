import hashlib
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from feddag_flwr.data import corruptions
from feddag_flwr.data.classes import in_classes
from feddag_flwr.data.corruptions import corrupt
from feddag_flwr.data.datasets import load_dataset
from feddag_flwr.data.holdout import stratified_share
from feddag_flwr.data.plan import make_plan
from feddag_flwr.data.samples import DataError, LabelledSamples
from feddag_flwr.data.scenarios import load_client_data
from feddag_flwr.data.variation import map_labels
from feddag_flwr.seeds import generator
from feddag_flwr.settings import Settings

pytestmark = pytest.mark.integration

ALL_AT_ONCE = {
    "scenario": "class-pairs",
    "client-groups": 3,
    "num-clients": 12,
    "concepts": 3,
    "rotations": 4,
    "corruptions": "gaussian-noise,snow,elastic-transform",
    "severity": 0,
    "train-share": 0.5,
    "test-share": 0.3,
}


def _client(settings, partition_id):
    return load_client_data(settings, {"partition-id": partition_id})


def _digest(data):
    digest = hashlib.sha256()
    for part in (data.train, data.test):
        digest.update(np.ascontiguousarray(part.samples).tobytes() + part.labels.tobytes())
    return digest.hexdigest() + f" {data.true_group}"


def test_all_at_once_by_a_second_computation():
    settings = Settings.from_run_config(ALL_AT_ONCE)
    dataset = load_dataset(settings)
    plan = make_plan(dataset, settings)
    plain = Settings.from_run_config(
        {**ALL_AT_ONCE, "concepts": 1, "rotations": 1, "corruptions": ""}
    )
    for client in (0, 7, 11):
        data, before, wanted = (
            _client(settings, client),
            _client(plain, client),
            plan.variation(client),
        )
        assert (data.train.labels == map_labels(before.train.labels, wanted.concept, 10)).all()
        assert (data.test.labels == map_labels(before.test.labels, wanted.concept, 10)).all()
        held = np.flatnonzero(plan.counts[client])
        assert sorted(set(before.test.labels.tolist())) == held.tolist()
        name = f"corrupt-train-{wanted.corruption}-{wanted.severity}"
        rng = generator(settings.run.seed, name, client=data.name)
        changed = corrupt(before.train.samples, wanted.corruption, wanted.severity, rng)
        expected = np.rot90(changed, wanted.quarter_turns, axes=(2, 3))
        assert (data.train.samples == expected).all()
        for label in held.tolist():
            name = f"corrupt-test-{wanted.corruption}-{wanted.severity}-stratum-{label}"
            rng = generator(settings.run.seed, name)
            own = before.test.samples[before.test.labels == label]
            changed = corrupt(own, wanted.corruption, wanted.severity, rng)
            expected = np.rot90(changed, wanted.quarter_turns, axes=(2, 3))
            assert (data.test.samples[before.test.labels == label] == expected).all()
        assert data.train.samples.flags.c_contiguous
        assert in_classes(data, data.class_names) is data


_FRESH = """
import sys
sys.path.insert(0, "tests/data")
from test_data_combinations import ALL_AT_ONCE, _client, _digest
from feddag_flwr.settings import Settings
settings = Settings.from_run_config(ALL_AT_ONCE)
for index in (9, 2):
    print(_digest(_client(settings, index)))
"""


def test_the_same_in_a_fresh_process_in_any_order_and_again():
    fresh = subprocess.run(
        [sys.executable, "-c", _FRESH],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.splitlines()
    settings = Settings.from_run_config(ALL_AT_ONCE)
    here = {index: _digest(_client(settings, index)) for index in (2, 5, 9)}
    assert fresh == [here[9], here[2]]
    assert _digest(_client(settings, 9)) == here[9]
    other = Settings.from_run_config({**ALL_AT_ONCE, "seed": 2})
    assert _digest(_client(other, 9)) != here[9]


def test_clients_of_a_group_share_their_test_set_and_no_training_image():
    settings = Settings.from_run_config({"corruptions": "fog,snow", "concepts": 2})
    clients = [_client(settings, index) for index in range(20)]
    by_group = {}
    for data in clients:
        by_group.setdefault(data.true_group, []).append(data)
    assert max(map(len, by_group.values())) > 1
    for members in by_group.values():
        assert len({data.test.samples.tobytes() for data in members}) == 1
        assert len({data.test.labels.tobytes() for data in members}) == 1
        assert len({data.train.samples[:2].tobytes() for data in members}) == len(members)


def test_corrupted_images_are_made_once_a_process(monkeypatch):
    calls = []

    def counted(images, kind, severity, rng):
        calls.append(kind)
        return corrupt(images, kind, severity, rng)

    monkeypatch.setattr(corruptions, "corrupt", counted)
    settings = Settings.from_run_config({"corruptions": "contrast", "seed": 77})
    for _ in range(3):
        for index in range(20):
            _client(settings, index)
    assert len(calls) == 20 + 10  # clients' training data, and each class's test data


def test_a_name_from_the_node_changes_no_image():
    settings = Settings.from_run_config({"corruptions": "shot-noise"})
    named = load_client_data(settings, {"partition-id": 4, "client-name": "clinic"})
    assert named.name == "clinic"
    assert (named.train.samples == _client(settings, 4).train.samples).all()


@pytest.mark.parametrize("share", [0.5, 0.21, 1e-6])
def test_shares_are_stratified(share):
    whole = load_dataset(Settings())
    settings = Settings.from_run_config({"train-share": share, "test-share": share / 2})
    found = load_dataset(settings)
    for part, before, wanted in (
        (found.train, whole.train, share),
        (found.test, whole.test, share / 2),
    ):
        counts, all_counts = np.bincount(part.labels), np.bincount(before.labels)
        expected = np.maximum(np.floor(all_counts * wanted + 0.5), 1)
        assert counts.tolist() == expected.tolist()
        rows = {image.tobytes() for image in before.samples}
        assert all(image.tobytes() in rows for image in part.samples)
    assert load_dataset(settings) is found


def test_a_share_by_hand():
    part = LabelledSamples(np.arange(14, dtype=np.uint8).reshape(14, 1, 1, 1),
                          np.array([0, 1] * 5 + [2, 0, 0, 0]))  # fmt: skip
    kept = stratified_share(part, 0.5, 1, purpose="train-share")
    assert np.bincount(kept.labels).tolist() == [4, 3, 1]  # of 8, 5 and 1, halves rounded up
    assert (np.diff(kept.samples.ravel().astype(int)) > 0).all()
    assert stratified_share(part, 1.0, 1, purpose="train-share") is part
    again = stratified_share(part, 0.5, 2, purpose="train-share")
    assert kept.samples.tolist() != again.samples.tolist()


def _picture(path, value):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", (4, 4), value).save(path)


def _domains(root):
    """Domain d, class c has 8 images of value 100 d + 10 c + index; sketch lacks dogs."""
    for number, domain in enumerate(("photo", "sketch")):
        for label, name in enumerate(("cat", "dog", "eel")):
            for index in range(0 if (domain, name) == ("sketch", "dog") else 8):
                _picture(root / domain / name / f"{index}.png", 100 * number + 10 * label + index)


def test_domains_end_to_end(tmp_path):
    _domains(tmp_path)
    settings = Settings.from_run_config(
        {"scenario": "domains", "dataset": "image-folder", "data-dir": str(tmp_path),
         "num-clients": 5, "min-class-samples": 1}
    )  # fmt: skip
    dataset = load_dataset(settings)
    assert dataset.domain_names == ("photo", "sketch")
    assert dataset.class_names == ("cat", "dog", "eel")
    assert np.bincount(dataset.test.labels).tolist() == [2, 2, 2, 2, 0, 2]
    seen = []
    for index in range(5):
        data = _client(settings, index)
        for part in (data.train, data.test):
            values = part.samples[:, 0, 0, 0].astype(int)
            assert set(values // 100) == {data.true_group}
            assert (values % 100 // 10 == part.labels).all()
        assert set(data.test.labels) == set(data.train.labels)
        seen += data.train.samples[:, 0, 0, 0].tolist()
    assert len(seen) == len(set(seen)) == 40 - 10


def test_faulty_domain_folders_are_named(tmp_path):
    def load(root):
        return load_dataset(
            Settings.from_run_config(
                {"scenario": "domains", "dataset": "image-folder", "data-dir": str(root)}
            )
        )

    with pytest.raises(DataError, match="gone: no such folder"):
        load(tmp_path / "gone")
    (tmp_path / "a").mkdir()
    with pytest.raises(DataError, match="a: no domains; expected folders DOMAIN/CLASS"):
        load(tmp_path / "a")
    _picture(tmp_path / "b/photo/cat/0.png", 1)
    (tmp_path / "b/sketch").mkdir()
    with pytest.raises(DataError, match="sketch: no images; expected one sub-folder a class"):
        load(tmp_path / "b")
    (tmp_path / "b/sketch").rmdir()
    (tmp_path / "b/photo/dog").mkdir()
    with pytest.raises(DataError, match="b: class 'dog' has no images in any domain"):
        load(tmp_path / "b")

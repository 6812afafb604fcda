"""Nothing of a checkpoint is used that is not what was written."""

import json
import os
import re
import shutil

import numpy as np
import pytest
from checkpoint_bench import GROUP, MODEL, assert_same, checkpoint_of, file_of, flip, folder_with
from safetensors.numpy import save

from feddag_flwr.checkpoints import (
    CheckpointError,
)
from feddag_flwr.checkpoints.files import NOTES, STATE
from feddag_flwr.checkpoints.manifest import sha256


def remanifest(path, change):
    """Change a manifest and make its checksum right again."""
    body = json.loads(path.read_text())
    del body["checksum"]
    change(body)
    text = json.dumps(body, sort_keys=True, separators=(",", ":"))
    path.write_text(json.dumps({**body, "checksum": sha256(text.encode())}))


DAMAGES = {
    "truncated": (lambda at: os.truncate(at / MODEL, 40), r"000\.safetensors has .* its 40 bytes"),
    "emptied": (lambda at: (at / "state.json").write_text(""), "state.json has .* its 0 bytes"),
    "one bit": (lambda at: flip(at / GROUP), r"update\.safetensors has been changed"),
    "one bit of a model": (lambda at: flip(at / MODEL), r"cluster-000\.safetensors has been chan"),
    "edited notes": (lambda at: flip(at / "notes.json"), r"notes\.json has been changed"),
    "gone": (lambda at: (at / GROUP).unlink(), r"update\.safetensors cannot be read: No such file"),
    "no models": (lambda at: shutil.rmtree(at / "models"), r"cluster-000.* cannot be read: No"),
    "no manifest": (lambda at: (at / "manifest.json").unlink(), r"manifest\.json cannot be read"),
    "edited manifest": (
        lambda at: (at / "manifest.json").write_text(
            (at / "manifest.json").read_text().replace('"round": 2', '"round": 3')
        ),
        "does not agree with its own checksum",
    ),
    "torn manifest": (lambda at: os.truncate(at / "manifest.json", 99), r"manifest\.json is not a"),
    "no JSON object": (lambda at: (at / "manifest.json").write_text("[]"), "is not a checkpoint's"),
    "binary manifest": (lambda at: (at / "manifest.json").write_bytes(b"\xff"), "is not a check"),
    "another format": (
        lambda at: remanifest(at / "manifest.json", lambda body: body.update(format=99)),
        "is of format 99, not 4: another version of feddag-flwr wrote it",
    ),
    "another round": (
        lambda at: remanifest(at / "manifest.json", lambda body: body.update(round=7)),
        "is of round 7",
    ),
    "a way out": (
        lambda at: remanifest(
            at / "manifest.json", lambda body: body["files"].update({"algorithm/../../secret": ""})
        ),
        "no file of a checkpoint",
    ),
    "not listed": (
        lambda at: remanifest(at / "manifest.json", lambda body: body["files"].pop(MODEL)),
        "does not list models/cluster-000",
    ),
    "a file in its place": (
        lambda at: (shutil.rmtree(at), at.write_text("x")),
        r"manifest\.json cannot be read: Not a directory",
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", DAMAGES)
def test_a_damaged_checkpoint_is_named_and_the_one_before_is_used(tmp_path, caplog, kind):
    kept = {"update": {"x": np.arange(40.0)}}
    folder = folder_with(tmp_path, 0, 1, 2, arrays=kept)
    damage, told = DAMAGES[kind]
    damage(file_of(folder, 2, ""))
    found = folder.newest()
    assert_same(found, checkpoint_of(1, arrays=kept))
    (record,) = caplog.records
    assert str(file_of(folder, 2, "")) in record.getMessage()
    assert re.search(told, record.getMessage())
    assert record.getMessage().count(".safetensors") <= 1


def test_when_all_are_damaged_the_folder_is_named(tmp_path, caplog):
    folder = folder_with(tmp_path, 1, 2)
    for server_round in (1, 2):
        file_of(folder, server_round, "notes.json").unlink()
    named = r"can be used: none of 2, see the log; the newest: notes\.json cannot be read"
    with pytest.raises(CheckpointError, match=named):
        folder.newest()
    assert len(caplog.records) == 2


def test_checkpoints_of_an_older_version_are_refused_with_the_reason(tmp_path):
    """Their models are of unnamed numbers: no KeyError in the middle of the resumed run."""
    folder = folder_with(tmp_path, 1, 2)
    for server_round in (1, 2):
        manifest = file_of(folder, server_round, "manifest.json")
        remanifest(manifest, lambda body: body.update(format=3))
    named = r"the newest: manifest\.json is of format 3, not 4: another version .* cannot use it"
    with pytest.raises(CheckpointError, match=named):
        folder.newest()


def test_files_that_do_not_belong_to_it_are_ignored(tmp_path):
    folder = folder_with(tmp_path, 1)
    file_of(folder, 1, "README").write_text("mine")
    file_of(folder, 1, "algorithm/x.safetensors").write_bytes(b"no tensors")
    assert folder.newest().server_round == 1


def test_a_text_of_another_kind_is_damage_too(tmp_path, caplog):
    """As when a later version writes other keys under the same format."""
    folder = folder_with(tmp_path, 1, 2)
    at = file_of(folder, 2, "")
    replace(at, STATE, b'{"layout": {}, "num-clusters": 0}')
    assert folder.newest().server_round == 1
    assert "state.json or notes.json is not a checkpoint's: KeyError('sample-shape')" in caplog.text
    replace(at, NOTES, b"[]")
    folder.newest()
    assert "notes.json is not a checkpoint's: TypeError" in caplog.text


@pytest.mark.parametrize("shape", [["sh", "-c", "true"], [0, 8, 8], [1.0, 8, 8], [True]])
def test_a_shape_that_is_none_is_damage(tmp_path, caplog, shape):
    """Who serves a run calls the factory of its model with it: no words for a shell."""
    folder = folder_with(tmp_path, 1, 2)
    at = file_of(folder, 2, "")
    text = json.loads((at / STATE).read_text())
    replace(at, STATE, json.dumps(text | {"sample-shape": shape}).encode())
    assert folder.newest().server_round == 1
    assert re.search(r"ValueError\(.sample-shape = ", caplog.text)


@pytest.mark.parametrize(
    ("arrays", "told"),
    [
        ({"primary.0.weight": np.zeros((1, 1))}, r"no primary\.0\.bias of shape \(1,\)"),
        (
            {"primary.0.weight": np.zeros(1), "primary.0.bias": np.zeros(1)},
            r"no primary\.0\.weight of shape \(1, 1\)",
        ),
    ],
)
def test_a_model_that_is_not_of_the_layout_is_damage(tmp_path, caplog, arrays, told):
    folder = folder_with(tmp_path, 1, 2)
    replace(file_of(folder, 2, ""), MODEL, save(arrays))
    assert folder.newest().server_round == 1
    assert re.search(told, caplog.text)
    replace(file_of(folder, 2, ""), MODEL, b"no tensors")
    folder.newest()
    assert "cluster-000.safetensors is not a checkpoint's: SafetensorError" in caplog.text


def replace(at, path, content):
    """Put another file in a file's place, and make the manifest right again."""
    (at / path).write_bytes(content)
    sums = {path: sha256(content)}
    remanifest(at / "manifest.json", lambda body: body["files"].update(sums))

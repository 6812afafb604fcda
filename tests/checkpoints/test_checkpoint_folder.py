"""Checkpoints on disk: what is written is read back, and nothing that is damaged is."""

import errno
import itertools
import json
import os
import re
import shutil
import signal
import time
from pathlib import Path

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis.extra import numpy as arrays_of
from safetensors.numpy import load_file, save

from feddag_flwr.aggregation import Weights
from feddag_flwr.checkpoints import (
    CHECKPOINTS,
    AlgorithmState,
    Checkpoint,
    CheckpointError,
    CheckpointFolder,
    CheckpointWriteError,
    disk,
    newest_checkpoint,
)
from feddag_flwr.checkpoints import folder as folder_module
from feddag_flwr.checkpoints.files import NOTES, STATE
from feddag_flwr.checkpoints.manifest import sha256
from feddag_flwr.layout import ModelLayout, TensorSpec
from feddag_flwr.state import Client, ServerState


def weights(*floats, integers=()):
    return Weights(np.array(floats, dtype=np.float32), integers=np.array(integers, dtype=np.int64))


# A part of two floats in two tensors, one of a counter, and one with all kinds.
LAYOUT = ModelLayout(
    {
        "primary": (
            TensorSpec("0.weight", "floats", (1, 1), "float32"),
            TensorSpec("0.bias", "floats", (1,), "float32"),
        ),
        "classifier": (TensorSpec("count", "integers", (), "int64"),),
        "mixed": (
            TensorSpec("w", "floats", (2, 1), "float32", ("tied.w",)),
            TensorSpec("running_mean", "buffers", (1,), "float32"),
            TensorSpec("seen", "integers", (1,), "int32"),
        ),
    }
)


def state_of(server_round=0, models=()):
    return ServerState(
        class_names=("0", "1"),
        sample_shape=(1, 8, 8),
        sample_scale=((0.1, 1 / 3),),
        clients={name: Client(name, 10, 3) for name in ("ward-1", "ward/2 ü")},
        server_round=server_round,
        assignments={"ward-1": 0, "ward/2 ü": 0},
        models=list(models),
        teachers=((0,),) * len(models),
    )


def checkpoint_of(server_round, *, models=None, arrays=None, notes=None, run=None, own=None):
    if models is None:
        models = [{"primary": weights(server_round, 0.1), "classifier": weights(integers=[7])}]
    algorithm = AlgorithmState(arrays or {}, notes or {}, own or {})
    state = state_of(server_round, models)
    return Checkpoint(server_round, {"seed": 3}, state, LAYOUT, algorithm, run or {})


def assert_same_arrays(found, expected):
    assert list(found) == list(expected)
    for name, values in expected.items():
        assert found[name].dtype == values.dtype, name
        assert found[name].shape == values.shape, name
        assert found[name].tobytes() == values.tobytes(), name


def assert_same(found, expected):
    assert found.server_round == expected.server_round
    assert found.settings == expected.settings
    assert found.notes == expected.notes
    assert found.layout == expected.layout
    assert found.algorithm.notes == expected.algorithm.notes
    assert list(found.algorithm.arrays) == list(expected.algorithm.arrays)
    for group, its in expected.algorithm.arrays.items():
        assert_same_arrays(found.algorithm.arrays[group], its)
    assert list(found.algorithm.models) == list(expected.algorithm.models)
    for client, model in expected.algorithm.models.items():
        assert_same_model(found.algorithm.models[client], model)
    assert vars(found.state) | {"models": None} == vars(expected.state) | {"models": None}
    for model, its in zip(found.state.models, expected.state.models, strict=True):
        assert_same_model(model, its)


def assert_same_model(found, expected):
    assert list(found) == list(expected)
    for part, each in expected.items():
        assert_same_arrays(vars(found[part]), vars(each))


def folder_with(tmp_path, *rounds, keep=3, **held):
    folder = CheckpointFolder(tmp_path / "run" / CHECKPOINTS, keep)
    for server_round in rounds:
        folder.write(checkpoint_of(server_round, **held))
    return folder


def file_of(folder, server_round, path):
    return folder.path / f"round-{server_round:06d}" / path


# -- contents --------------------------------------------------------------------------------------


def test_a_checkpoint_comes_back_as_it_was(tmp_path):
    written = checkpoint_of(
        12,
        arrays={
            "profiles": {
                "floats": np.array([[1.5, -0.0], [np.pi, 1e-45]], dtype=np.float32),
                "doubles": np.array([1 / 3, np.nan, -np.inf]),
                "counts": np.array([[2**62, -1]]),
                "flags": np.array([True, False, True]),
                "none": np.zeros((0, 5), dtype=np.float32),
                "one": np.array(4, dtype=np.int64),
                "turned": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
            },
            "empty": {},
        },
        notes={"threshold": 0.1 + 0.2, "names": ["é", 'a"b\\c', "\u2028"], "deep": {"x": [None]}},
        run={"total-bytes": 2**60, "done": True},
    )
    folder = CheckpointFolder(tmp_path, keep=2)
    folder.write(written)
    assert_same(CheckpointFolder(tmp_path, keep=2).newest(), written)
    assert folder.rounds() == [12]


@pytest.mark.parametrize("models", [[], [{}], [{"primary": weights(-0.0, np.nan)}] * 3])
def test_no_cluster_and_no_part_are_possible(tmp_path, models):
    written = checkpoint_of(0, models=models)
    folder = CheckpointFolder(tmp_path, keep=1)
    folder.write(written)
    assert_same(folder.newest(), written)


ODD = ["", ".", "..", "../../x", "a/b", "A", "a", "a%2Fb", "CON", "ü" * 100, "x" * 300,
       "__metadata__", "~__metadata__", "~", "round-000001", "\x00", "a\nb"]  # fmt: skip


def test_groups_and_arrays_may_have_any_name(tmp_path):
    arrays = {
        group: {name: np.array([place, number]) for number, name in enumerate(ODD)}
        for place, group in enumerate(ODD)
    }
    written = checkpoint_of(1, arrays=arrays)
    folder = CheckpointFolder(tmp_path / "here", keep=1)
    folder.write(written)
    assert_same(folder.newest(), written)
    assert [each.name for each in tmp_path.iterdir()] == ["here"]
    lower = {each.name.lower() for each in file_of(folder, 1, "algorithm").iterdir()}
    assert len(lower) == len(ODD)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)
GROUPS = st.dictionaries(
    st.text(max_size=8),
    st.dictionaries(
        st.text(max_size=8),
        arrays_of.arrays(
            st.sampled_from([np.float32, np.float64, np.int64, np.bool_]),
            arrays_of.array_shapes(min_dims=0, min_side=0, max_side=3),
        ),
        max_size=3,
    ),
    max_size=3,
)


@settings(max_examples=25)
@given(GROUPS, st.dictionaries(st.text(), JSON))
@pytest.mark.filterwarnings("ignore::hypothesis.errors.NonInteractiveExampleWarning")
def test_any_state_of_an_algorithm_comes_back(tmp_path_factory, arrays, notes):
    written = checkpoint_of(2, arrays=arrays, notes=notes)
    folder = CheckpointFolder(tmp_path_factory.mktemp("any"), keep=1)
    folder.write(written)
    assert_same(folder.newest(), written)


@pytest.mark.parametrize(
    ("notes", "told"),
    [
        ({"a": {"b": [1, (2, 3)]}}, "notes.json: algorithm: a: b: tuple is no JSON"),
        ({"a": {1: "one"}}, "notes.json: algorithm: a: key 1 is no text"),
        ({"a": np.int64(3)}, "notes.json: algorithm: a: int64 is no JSON"),
    ],
)
def test_notes_that_would_change_are_refused(tmp_path, notes, told):
    folder = folder_with(tmp_path, 1)
    with pytest.raises(TypeError, match=told.replace(".", r"\.")):
        folder.write(checkpoint_of(2, notes=notes))
    assert [each.name for each in folder.path.iterdir()] == ["round-000001"]


def test_an_array_of_objects_is_refused(tmp_path):
    with pytest.raises(TypeError, match="array 'names' is <U1"):
        folder_with(tmp_path, 1, arrays={"g": {"names": np.array(["a"])}})


def test_models_are_plain_safetensors_for_others_to_read(tmp_path):
    folder = folder_with(tmp_path, 5)
    found = load_file(file_of(folder, 5, "models/cluster-000.safetensors"))
    assert set(found) == {"primary.0.weight", "primary.0.bias", "classifier.count"}
    assert found["primary.0.weight"].tolist() == [[5.0]]
    assert found["primary.0.bias"].tolist() == [np.float32(0.1)]
    assert found["classifier.count"].shape == ()
    assert found["classifier.count"] == 7


def test_models_of_clients_come_back_in_their_order(tmp_path):
    mixed = Weights(*(np.array(each) for each in (np.float32([1, 2]), np.float32([3]), [4])))
    written = checkpoint_of(
        1,
        arrays={"client-ward-1": {"x": np.zeros(1)}},
        own={
            "ward/2 ü": {"primary": weights(1.0, 3.0), "mixed": mixed},
            "ward-1": {"mixed": mixed},
        },
    )
    folder = CheckpointFolder(tmp_path, keep=1)
    folder.write(written)
    assert_same(folder.newest(), written)
    found = load_file(file_of(folder, 1, "models/client-ward-1.safetensors"))
    assert {name: values.tolist() for name, values in found.items()} == {
        "mixed.w": [[1], [2]], "mixed.tied.w": [[1], [2]],
        "mixed.running_mean": [3], "mixed.seen": [4],
    }  # fmt: skip
    assert found["mixed.seen"].dtype == np.int32


def test_what_was_written_and_what_was_read_can_be_changed_in_place(tmp_path):
    values, floats = np.arange(5.0), np.ones(2, dtype=np.float32)
    folder = folder_with(
        tmp_path, 1, arrays={"g": {"x": values}}, models=[{"primary": Weights(floats)}]
    )
    found = folder.newest()
    for array in (
        values,
        floats,
        found.algorithm.arrays["g"]["x"],
        found.state.models[0]["primary"].floats,
        found.state.models[0]["primary"].buffers,
    ):
        array += 1
    assert folder.newest().algorithm.arrays["g"]["x"].tolist() == [0, 1, 2, 3, 4]


def test_the_checksum_stands_for_every_file(tmp_path):
    sums = set()
    for name, held in {
        "one": {}, "run": {"run": {"x": 1}}, "algorithm": {"arrays": {"g": {"x": np.zeros(1)}}},
        "models": {"models": []}, "again": {"models": []},
    }.items():  # fmt: skip
        folder = CheckpointFolder(tmp_path / name, keep=1)
        folder.write(checkpoint_of(1, **held))
        assert folder.newest().checksum in (folder.path / "round-000001/manifest.json").read_text()
        sums.add(folder.newest().checksum)
    assert len(sums) == 4
    assert {len(each) for each in sums} == {64}


# -- which one -------------------------------------------------------------------------------------


def test_the_last_ones_are_kept(tmp_path):
    folder = folder_with(tmp_path, *range(6), keep=2)
    assert folder.rounds() == [4, 5]
    assert folder.newest().server_round == 5
    assert newest_checkpoint(folder.path.parent).server_round == 5


def test_fewer_are_kept_from_the_next_write_on(tmp_path):
    folder = folder_with(tmp_path, 1, 2, 3, 4, keep=4)
    CheckpointFolder(folder.path, keep=1).write(checkpoint_of(5))
    assert folder.rounds() == [5]


def test_a_run_that_goes_on_from_an_older_one_forgets_the_later_ones(tmp_path):
    folder = folder_with(tmp_path, 2, 4, 6)
    folder.write(checkpoint_of(3))
    assert folder.rounds() == [2, 3]


def test_a_round_done_anew_replaces_its_damaged_checkpoint(tmp_path):
    folder = folder_with(tmp_path, 1, 2)
    file_of(folder, 2, "state.json").unlink()
    (file_of(folder, 2, "left-by-somebody")).write_text("x")
    again = checkpoint_of(2, notes={"again": 1})
    folder.write(again)
    assert_same(folder.newest(), again)
    assert not file_of(folder, 2, "left-by-somebody").exists()
    assert sorted(each.name for each in folder.path.iterdir()) == ["round-000001", "round-000002"]


def test_leftovers_go_at_the_next_write_and_are_never_read(tmp_path):
    folder = folder_with(tmp_path, 1)
    shutil.copytree(file_of(folder, 1, ""), folder.path / "round-000002.partial")
    shutil.copytree(file_of(folder, 1, ""), folder.path / "round-000001.old.partial")
    (folder.path / "notes of mine").mkdir()
    assert folder.rounds() == [1]
    assert folder.newest().server_round == 1
    folder.write(checkpoint_of(3))
    names = sorted(each.name for each in folder.path.iterdir())
    assert names == ["notes of mine", "round-000001", "round-000003"]


def test_no_checkpoint_at_all_names_the_folder(tmp_path):
    folder = CheckpointFolder(tmp_path / "nowhere", keep=1)
    assert folder.rounds() == []
    with pytest.raises(
        CheckpointError, match=r"no checkpoint in .*nowhere can be used: there is no"
    ):
        folder.newest()


def test_one_at_least_is_kept(tmp_path):
    with pytest.raises(ValueError, match="keep = 0"):
        CheckpointFolder(tmp_path, keep=0)


# -- damage ----------------------------------------------------------------------------------------


def remanifest(path, change):
    """Change a manifest and make its checksum right again."""
    body = json.loads(path.read_text())
    del body["checksum"]
    change(body)
    text = json.dumps(body, sort_keys=True, separators=(",", ":"))
    path.write_text(json.dumps({**body, "checksum": sha256(text.encode())}))


def flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


MODEL, GROUP = "models/cluster-000.safetensors", "algorithm/update.safetensors"
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
    assert "state.json or notes.json is not a checkpoint's: KeyError('class-names')" in caplog.text
    replace(at, NOTES, b"[]")
    folder.newest()
    assert "notes.json is not a checkpoint's: TypeError" in caplog.text


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


# -- sharing ---------------------------------------------------------------------------------------


def inode(folder, server_round, path):
    return file_of(folder, server_round, path).stat().st_ino


def test_what_did_not_change_is_shared_but_never_with_the_one_before(tmp_path, monkeypatch):
    written = []
    original = disk.write_new
    monkeypatch.setattr(
        folder_module, "write_new", lambda at, c: written.append(at.name) or original(at, c)
    )
    still = {"still": {"x": np.arange(5.0)}}
    folder = CheckpointFolder(tmp_path, keep=4)
    for server_round in range(4):
        moving = {"moving": {"y": np.full(5, float(server_round))}}
        folder.write(checkpoint_of(server_round, arrays={**still, **moving}))
    path, other = "algorithm/still.safetensors", "algorithm/moving.safetensors"
    inodes = [inode(folder, each, path) for each in range(4)]
    assert inodes[0] == inodes[2] != inodes[1] == inodes[3]
    assert len({inode(folder, each, other) for each in range(4)}) == 4
    assert written.count("still.safetensors") == 2  # the first and its copy
    assert written.count("moving.safetensors") == 4
    for each in range(4):
        assert folder.read(each).algorithm.arrays["still"]["x"].tolist() == [0, 1, 2, 3, 4]


def test_damage_to_a_shared_file_leaves_the_one_before_whole(tmp_path):
    still = {"still": {"x": np.arange(50.0)}}
    folder = folder_with(tmp_path, 1, 2, 3, 4, arrays=still)
    flip(file_of(folder, 4, "algorithm/still.safetensors"))
    assert folder.newest().server_round == 3


def test_a_single_checkpoint_shares_with_the_one_that_it_replaces(tmp_path):
    still = {"still": {"x": np.arange(5.0)}}
    folder = folder_with(tmp_path, 1, keep=1, arrays=still)
    before = inode(folder, 1, "algorithm/still.safetensors")
    folder.write(checkpoint_of(2, arrays=still))
    assert inode(folder, 2, "algorithm/still.safetensors") == before


def test_equal_arrays_are_shared_after_a_restart_too(tmp_path):
    still = {"still": {"x": np.arange(5.0)}}
    folder = folder_with(tmp_path, 1, 2, arrays=still)
    again = CheckpointFolder(folder.path, keep=3)
    again.write(checkpoint_of(3, arrays=again.newest().algorithm.arrays))
    path = "algorithm/still.safetensors"
    assert inode(folder, 3, path) == inode(folder, 1, path)


def test_an_array_that_is_changed_in_place_is_written_anew(tmp_path):
    folder = CheckpointFolder(tmp_path, keep=3)
    array = np.zeros(3, dtype=np.int64)
    for server_round in range(5):
        array[:] = server_round
        folder.write(checkpoint_of(server_round, arrays={"g": {"x": array}}))
    assert folder.newest().algorithm.arrays["g"]["x"].tolist() == [4, 4, 4]


def test_a_file_system_without_links_gets_copies(tmp_path, monkeypatch):
    def refuse(*_):
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(disk.os, "link", refuse)
    still = {"still": {"x": np.arange(5.0)}}
    folder = folder_with(tmp_path, 1, 2, 3, arrays=still)
    path = "algorithm/still.safetensors"
    assert len({inode(folder, each, path) for each in (1, 2, 3)}) == 3
    assert_same(folder.newest(), checkpoint_of(3, arrays=still))


def test_a_truncated_older_file_is_not_shared(tmp_path):
    still = {"still": {"x": np.arange(50.0)}}
    folder = folder_with(tmp_path, 1, 2, arrays=still)
    os.truncate(file_of(folder, 1, "algorithm/still.safetensors"), 10)
    folder.write(checkpoint_of(3, arrays=still))
    assert_same(folder.newest(), checkpoint_of(3, arrays=still))


# -- a process that dies ---------------------------------------------------------------------------


def write_for_ever(folder, started):
    """Write a checkpoint after the other, a growing array in each, until somebody ends it."""
    still = np.arange(2000.0)
    for server_round in itertools.count(1):
        arrays = {"still": {"x": still}, "moving": {"y": np.full(20_000, float(server_round))}}
        folder.write(checkpoint_of(server_round, arrays=arrays))
        os.write(started, b".")


def test_a_process_killed_at_any_moment_leaves_its_last_checkpoint(tmp_path):
    delays = np.random.default_rng(5).uniform(0, 0.03, 12)
    torn = 0
    for attempt, delay in enumerate(delays):
        folder = CheckpointFolder(tmp_path / str(attempt), keep=2)
        done, started = os.pipe()
        child = os.fork()
        if child == 0:
            try:
                write_for_ever(folder, started)
            finally:
                os._exit(1)
        assert os.read(done, 1) == b"."
        time.sleep(delay)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        os.close(started)
        finished = 1 + len(os.read(done, 65_536))
        os.close(done)
        found = folder.newest()
        assert found.server_round in {finished, finished + 1}
        assert (found.algorithm.arrays["moving"]["y"] == found.server_round).all()
        torn += len(list(folder.path.glob("*.partial")))
        folder.write(checkpoint_of(found.server_round + 1))
        assert not list(folder.path.glob("*.partial"))
        assert folder.newest().server_round == found.server_round + 1
    assert torn, "no kill came while a checkpoint was being written"


# -- a disk that does not do as it is told ---------------------------------------------------------


@pytest.mark.parametrize("writes", range(5))
def test_a_full_disk_costs_the_new_checkpoint_alone(tmp_path, monkeypatch, writes):
    folder = folder_with(tmp_path, 1, 2, keep=2, arrays={"g": {"x": np.arange(9.0)}})
    left = iter(range(writes))
    original = disk.write_new

    def write(path, content):
        if next(left, None) is None:
            path.write_bytes(content[:7])
            raise OSError(errno.ENOSPC, "No space left on device")
        original(path, content)

    monkeypatch.setattr(folder_module, "write_new", write)
    with pytest.raises(CheckpointWriteError, match=r"round-000003 could not be written: No space"):
        folder.write(checkpoint_of(3, arrays={"g": {"x": np.arange(8.0)}}, run={"new": 1}))
    assert sorted(each.name for each in folder.path.iterdir()) == ["round-000001", "round-000002"]
    monkeypatch.undo()
    assert folder.newest().server_round == 2
    folder.write(checkpoint_of(4))
    assert folder.rounds() == [2, 4]


@pytest.mark.parametrize(("function", "left"), [("sync_all", [1]), ("sync", [1, 2])])
def test_a_disk_that_cannot_be_synced_leaves_nothing_half_made(
    tmp_path, monkeypatch, function, left
):
    folder = folder_with(tmp_path, 1)

    def refuse(*_):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(folder_module, function, refuse)
    with pytest.raises(CheckpointWriteError, match="round-000002 could not be written: Input/outp"):
        folder.write(checkpoint_of(2))
    assert folder.rounds() == left
    assert folder.newest().server_round == left[-1]
    assert not list(folder.path.glob("*.partial"))


def test_an_interrupt_while_writing_leaves_nothing_half_made(tmp_path, monkeypatch):
    folder = folder_with(tmp_path, 1)

    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(folder_module, "write_new", interrupt)
    with pytest.raises(KeyboardInterrupt):
        folder.write(checkpoint_of(2))
    assert [each.name for each in folder.path.iterdir()] == ["round-000001"]


def test_files_are_synced_before_their_folder_gets_its_name(tmp_path, monkeypatch):
    """What a power cut needs: contents, then names, then the final name."""
    events = []
    fsync, rename = os.fsync, type(tmp_path).rename

    def note_sync(handle):
        events.append(("sync", str(Path(f"/proc/self/fd/{handle}").readlink())))
        fsync(handle)

    def note_rename(path, target):
        events.append(("rename", str(target)))
        return rename(path, target)

    monkeypatch.setattr(disk.os, "fsync", note_sync)
    monkeypatch.setattr(type(tmp_path), "rename", note_rename)
    folder = folder_with(tmp_path, 1, arrays={"g": {"x": np.arange(3.0)}})
    partial = f"{folder.path}/round-000001.partial"
    renamed = events.index(("rename", f"{folder.path}/round-000001"))
    assert {path for _, path in events[:renamed]} == {
        f"{partial}/{name}" for name in
        ("state.json", "notes.json", "manifest.json", "models", "algorithm", MODEL,
         "algorithm/g.safetensors")
    } | {partial}  # fmt: skip
    assert events[renamed + 1] == ("sync", str(folder.path))

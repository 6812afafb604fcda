"""Checkpoints on disk: what is written is read back."""

import hypothesis.strategies as st
import numpy as np
import pytest
from checkpoint_bench import assert_same, checkpoint_of, file_of, folder_with, weights
from hypothesis import given, settings
from hypothesis.extra import numpy as arrays_of
from safetensors.numpy import load_file

from feddag_flwr.aggregation import Weights
from feddag_flwr.checkpoints import (
    CheckpointFolder,
)


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

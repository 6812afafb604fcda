"""What the demonstration shows with: parts of the digits, the comparison, the command's options."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.datasets import load_digits

from feddag_flwr.aggregation import Weights
from feddag_flwr.data.files import read_npz
from feddag_flwr.modalities.image import Image
from feddag_flwr.settings import Settings
from feddag_flwr.state import Client, ServerState
from feddag_lab.cli import main
from feddag_lab.demonstration.comparison import compare_states
from feddag_lab.demonstration.example_parts import write_parts
from feddag_lab.demonstration.examples import HOSPITALS, example

ROOT = Path(__file__).resolve().parents[3]


def test_each_ward_has_real_digits_of_its_own(tmp_path):
    paths = write_parts(tmp_path)
    assert list(paths) == ["ward-1", "ward-2", "ward-3", "ward-4"]
    real = {
        (np.rint(image * 15.9375).astype(np.uint8).tobytes(), str(label))
        for image, label in zip(*load_digits(return_X_y=True), strict=True)
    }
    seen = set()
    for ward, path in paths.items():
        parts = read_npz(path, Image())
        names = "01234" if ward in ("ward-1", "ward-2") else "56789"
        assert "".join(parts.class_names) == names
        own = {
            (image.tobytes(), parts.class_names[label])
            for image, label in zip(parts.train.samples, parts.train.labels, strict=True)
        }
        assert len(own) == 160
        assert own <= real
        assert not own & seen
        assert {name for _, name in own} == set(names)
        seen |= own


def state(numbers, teachers=((1,), (0,))):
    weights = [Weights(np.array(each, dtype=np.float32)) for each in numbers]
    return ServerState(
        ("0", "1"), (1, 8, 8), ((0.0, 1.0),), {"a": Client("a", 3, 1), "b": Client("b", 3, 1)},
        assignments={"a": 0, "b": 1}, models=[{"primary": each} for each in weights],
        teachers=teachers,
    )  # fmt: skip


def test_equal_states_are_equal_to_the_bit():
    found = compare_states(state([[1, 2], [3, 4]]), state([[1, 2], [3, 4]]))
    assert found.equal
    assert str(found) == "equal to the bit: all 4 numbers of the models, the clusters too"


def test_differences_are_counted_and_measured():
    found = compare_states(state([[1, 2], [3, 4]]), state([[1, 2.5], [3, 2]]))
    assert (found.numbers, found.different, found.largest) == (4, 2, 2.0)
    assert str(found) == "not equal: 2 of 4 numbers differ, by 2 at most; the same clusters"


def test_bits_count_and_nan_is_far_from_everything():
    found = compare_states(state([[0.0], [1]]), state([[-0.0], [1]]))
    assert (found.equal, found.different, found.largest) == (False, 1, 0.0)
    found = compare_states(state([[np.nan], [1]]), state([[np.nan], [1]]))
    assert found.equal
    assert compare_states(state([[np.nan], [1]]), state([[2], [1]])).largest == np.inf


def test_other_clusters_are_no_equality():
    one = state([[1], [2]])
    assert not compare_states(one, state([[1], [2]], teachers=((), ()))).equal
    moved = dataclasses.replace(one, assignments={"a": 1, "b": 1})
    found = compare_states(one, moved)
    assert not found.equal
    assert str(found).endswith("other clusters")
    shorter = state([[1], [2, 3]])
    found = compare_states(one, shorter)
    assert (found.different, found.largest) == (2, np.inf)
    assert not compare_states(one, dataclasses.replace(one, models=one.models[:1])).equal


@given(st.lists(st.floats(width=32), min_size=1, max_size=5), st.data())
def test_one_other_number_is_always_found(numbers, data):
    place = data.draw(st.integers(0, len(numbers) - 1))
    other = list(numbers)
    other[place] = data.draw(st.floats(width=32))
    same = np.array(numbers, "f4").tobytes() == np.array(other, "f4").tobytes()
    assert compare_states(state([numbers, [0]]), state([other, [0]])).equal == same


@pytest.mark.parametrize("arguments", [["--rounds", "3"], ["--rounds", "x"]])
def test_the_demonstration_takes_four_rounds_at_least(arguments, capsys):
    with pytest.raises(SystemExit) as end:
        main(["deploy-demo", *arguments])
    assert end.value.code == 2
    assert "--rounds" in capsys.readouterr().err


def test_four_hospitals_are_four_clients_with_the_example_s_settings(tmp_path):
    data, folder = tmp_path / "data", tmp_path / "home"
    data.mkdir()
    folder.mkdir()
    for name in HOSPITALS:
        (data / f"{name}.csv").write_text("age,num\n50,1\n60,0\n")
    made = example("heart", ROOT, data)
    settings = Settings.from_run_config(made.settings)
    assert (settings.run.num_clients, settings.data.modality) == (4, "tabular")
    parts = made.write(folder)
    assert list(parts) == list(HOSPITALS)
    assert all(path.read_text() == "age,num\n50,1\n60,0\n" for path in parts.values())
    assert {path.parent for path in parts.values()} == {folder}


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("heart", None, "needs --data-dir"),
        ("heart", Path("gone"), r"--data-dir gone: no file gone/cleveland.csv, gone/hungarian.csv"),
        ("wards", Path("here"), "the example 'wards' brings its own data"),
    ],
)
def test_examples_without_their_data_are_refused(name, data, message):
    with pytest.raises(ValueError, match=message):
        example(name, ROOT, data)

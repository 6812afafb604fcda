"""Tables: every weakness ends in a right result, or in a sentence that says where."""

import os
from pathlib import Path

import numpy as np
import pytest

from feddag_flwr.data.array_files import read_arrays
from feddag_flwr.data.cells import cell_text
from feddag_flwr.data.samples import DataError
from feddag_flwr.data.scenarios import load_client_data
from feddag_flwr.data.tables import TableOptions, client_names, read_table
from feddag_flwr.modalities import load_modality
from feddag_flwr.settings import Settings, SettingsError

REAL = Path(os.environ.get("FEDDAG_TEST_DATA", Path(__file__).parents[2] / "../shared/data"))
HEART = REAL / "heart"


def read(folder, text, suffix=".csv", **options):
    path = folder / f"table{suffix}"
    path.write_text(text, encoding="utf-8")
    sets = {key: frozenset(v) if isinstance(v, set) else v for key, v in options.items()}
    return read_table(path, TableOptions(**sets))


def test_columns_are_numbers_or_categories(tmp_path):
    parts = read(tmp_path, "age,sex,label\n63,male,1\n?,female,0\n41.5,,1\n")
    samples = parts.train.samples
    assert samples.dtype["age"].kind == "f"
    np.testing.assert_array_equal(samples["age"], [63, np.nan, 41.5])
    assert samples["sex"].tolist() == ["male", "female", ""]
    assert parts.train.labels.tolist() == [1, 0, 1]
    assert parts.class_names == ("0", "1")


def test_codes_are_categories_where_the_settings_say_so(tmp_path):
    parts = read(tmp_path, "cp,id,label\n1.0,7,a\n2,8,b\n", categorical={"cp"}, dropped={"id"})
    assert parts.train.samples.dtype.names == ("cp",)
    assert parts.train.samples["cp"].tolist() == ["1", "2"]


@pytest.mark.parametrize(
    ("labels", "numbers", "names"),
    [
        (["ill", "well", "ill"], [0, 1, 0], ("ill", "well")),
        (["0.0", "1.0", "1.0"], [0, 1, 1], ("0", "1")),
        (["1", "2", "1"], [0, 1, 0], ("1", "2")),
        (["3", "10", "7"], [0, 2, 1], ("3", "7", "10")),
        (["-1", "1", "1"], [0, 1, 1], ("-1", "1")),
    ],
)
def test_labels_of_any_writing(tmp_path, labels, numbers, names):
    text = "x,label\n" + "".join(f"1,{label}\n" for label in labels)
    parts = read(tmp_path, text)
    assert (parts.train.labels.tolist(), parts.class_names) == (numbers, names)
    typed = np.array(labels)
    for stored in [typed, *([typed.astype(float)] if labels[0] != "ill" else [])]:
        np.savez(tmp_path / "a.npz", features=np.ones((3, 2)), labels=stored)
        parts = read_arrays(tmp_path / "a.npz", load_modality("tabular"), TableOptions())
        assert (parts.train.labels.tolist(), parts.class_names) == (numbers, names)


def test_labels_stand_for_classes(tmp_path):
    classes = (("0", "well"), ("1", "ill"), ("2", "ill"))
    parts = read(tmp_path, "x,label\n1,0\n1,2\n1,1\n", classes=classes)
    assert parts.class_names == ("ill", "well")
    assert parts.train.labels.tolist() == [1, 0, 0]
    with pytest.raises(DataError, match=r"label '3' of line 2 of table.csv: class-map has"):
        read(tmp_path, "x,label\n1,3\n", classes=classes)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty; expected a row of names"),
        ("\n\n", "is empty"),
        ("x,label\n", "has names of columns, but no row"),
        ("x,y\n1,2\n", r"no column 'label' \(setting label-column\); it has 'x', 'y'"),
        ("label\n1\n", "no column is left beside the label"),
        ("x,x,label\n1,2,3\n", "column 'x' is there twice; rename one"),
        ("x,,label\n1,2,3\n", "column 2 is called ''; give it a name"),
        ("1,2,0\n3,4,1\n", "its first row is all numbers; expected the names"),
        ("x,label\n1,0\n1,2,3\n", "line 3 has 3 cells, but there are 2 columns"),
        ("x,label\n1,0\n12o,1\n", "line 3, column 'x': '12o' is no number, other cells are; mend"),
        ("x,label\n1,0\n-inf,1\n", "line 3, column 'x': is infinite"),
        ("x,label\n1,0\n1,\n", "line 3 of table.csv has no label; write one"),
        ('x,label\n"1,0\n', "line"),
        ("x,label\n\0,0\n", "holds zero bytes"),
    ],
)
def test_a_broken_table_is_refused_by_name_and_row(tmp_path, text, message):
    with pytest.raises(DataError, match=message) as error:
        read(tmp_path, text)
    assert str(error.value).startswith(str(tmp_path / "table.csv"))
    assert "\n" not in str(error.value)


def test_many_texts_are_no_category(tmp_path):
    rows = "".join(f"name {number},0\n" for number in range(1001))
    with pytest.raises(DataError, match=r"'who' has 1,001 different texts, .* in drop-columns"):
        read(tmp_path, "who,label\n" + rows)
    rows = "".join(f"0,a{number}\n" for number in range(1001))
    with pytest.raises(DataError, match="1,001 different labels"):
        read(tmp_path, "x,label\n" + rows)


def test_separators_marks_and_blank_lines(tmp_path):
    expected = read(tmp_path, "x,label\n1,a b\n2,c\n").train
    for text in (
        "\ufeffx;label\n1;a b\n\n2;c\n",
        'x\tlabel\r\n1\t"a b"\r\n2\tc\r\n',
        "x, label\n1, a b\n2, c",
    ):
        found = read(tmp_path, text).train
        np.testing.assert_array_equal(found.samples, expected.samples)
        np.testing.assert_array_equal(found.labels, expected.labels)


def test_bytes_that_are_no_text_are_refused(tmp_path):
    path = tmp_path / "a.csv"
    path.write_bytes(b"x,label\n\xff\xfe,1\n")
    with pytest.raises(DataError, match="is not UTF-8 text"):
        read_table(path, TableOptions())


def test_arff_is_read_below_its_data_line(tmp_path):
    text = (
        "@relation r\n% note\n@attribute \"user\"\n@ATTRIBUTE 'X 0' numeric\n"
        "@attribute class {a, b}\n"
        "@data\n% no row\n33,0.5,Walking\n7,?,Sitting\n33,1,Sitting\n"
    )
    path = tmp_path / "w.arff"
    path.write_text(text)
    options = TableOptions(label="class", client="user")
    assert client_names(path, options) == ["7", "33"]
    parts = read_table(path, options, "33")
    assert parts.train.samples["X 0"].tolist() == [0.5, 1.0]
    assert parts.train.samples.dtype.names == ("X 0",)
    assert parts.class_names == ("Sitting", "Walking")
    with pytest.raises(DataError, match="no row of client '8' in column 'user'"):
        read_table(path, options, "8")


def test_a_folder_has_a_train_and_a_test_part(tmp_path):
    (tmp_path / "train.csv").write_text("x,c,label\n1,u,0\n2,v,1\n")
    (tmp_path / "test.csv").write_text("label,c,x\n1,w,3\n")
    parts = read_table(tmp_path, TableOptions())
    assert parts.test.samples.dtype == parts.train.samples.dtype
    assert parts.test.samples[0].tolist() == (3.0, "w")
    assert parts.test.labels.tolist() == [1]
    (tmp_path / "test.csv").write_text("label,x\n1,3\n")
    with pytest.raises(DataError, match="column 'c' is not in both"):
        read_table(tmp_path, TableOptions())


def test_thirteen_columns_with_holes_in_an_archive(tmp_path):
    features = np.random.default_rng(1).normal(size=(40, 13))
    features[::3, 4] = np.nan
    np.savez(tmp_path / "a.npz", features=features, labels=np.arange(40) % 2)
    settings = Settings.from_run_config(
        {"scenario": "own", "dataset": "npz", "modality": "tabular"}
    )
    data = load_client_data(settings, {"data-path": str(tmp_path / "a.npz")})
    assert len(data.train.samples.dtype.names) == 13
    assert len(data.train) + len(data.test) == 40


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"features": np.ones((3, 2)), "labels": np.ones(2)}, "3 'features' but 2 'labels'"),
        ({"features": np.ones((0, 2)), "labels": np.ones(0)}, "'features' has length 0"),
        ({"features": np.ones((1, 2, 2)), "labels": np.ones(1)}, "expected numbers or texts of"),
        ({"features": np.full((1, 2), np.inf), "labels": np.ones(1)}, "'0': is infinite"),
        ({"features": np.ones((1, 2)), "labels": np.full(1, np.nan)}, r"labels\[0\] has no label"),
        ({"features": np.ones((1, 2)), "labels": np.ones((1, 2))}, "expected integers, whole"),
        (
            {"features": np.ones((1, 2)), "labels": np.ones(1), "column_names": ["a"]},
            "2 texts, one",
        ),
        ({"features": np.ones((1, 2)), "labels": np.ones(1), "class_names": ["a"]}, "label '1' of"),
        ({"rows": np.ones((1, 2))}, "no array 'features'"),
    ],
)
def test_a_broken_archive_is_refused(tmp_path, arrays, message):
    np.savez(tmp_path / "a.npz", **arrays)
    with pytest.raises(DataError, match=message):
        read_arrays(tmp_path / "a.npz", load_modality("tabular"), TableOptions())


def own(folder, **changes):
    return Settings.from_run_config(
        {"scenario": "own", "dataset": "table", "modality": "tabular", "data-dir": str(folder),
         "num-clients": 2, **changes}
    )  # fmt: skip


def test_each_table_of_a_folder_is_a_client(tmp_path):
    for name in "ba":
        (tmp_path / f"{name}.csv").write_text("x,label\n" + "1,0\n2,1\n" * 4)
    (tmp_path / "README.md").write_text("no table")
    data = load_client_data(own(tmp_path), {"partition-id": 1, "num-partitions": 2})
    assert data.name == "b"
    with pytest.raises(DataError, match="has 2 tables, but num-clients = 3"):
        load_client_data(own(tmp_path, **{"num-clients": 3}), {"partition-id": 1})


def test_a_table_of_all_clients_is_dealt_by_its_column(tmp_path):
    path = tmp_path / "all.csv"
    path.write_text("who,x,label\n" + "9,1,0\n10,2,1\n9,3,1\n" * 4)
    settings = own(path, **{"client-column": "who"})
    first = load_client_data(settings, {"partition-id": 0, "num-partitions": 2})
    assert (first.name, len(first.train) + len(first.test)) == ("9", 8)
    node = {"data-path": str(path), "client-name": "10"}
    assert len(load_client_data(settings, node).train) == 3
    with pytest.raises(DataError, match="names 2 clients, but num-clients = 5"):
        load_client_data(settings.changed({"num-clients": 5}), {"partition-id": 0})


def test_a_table_of_one_row_is_refused(tmp_path):
    (tmp_path / "a.csv").write_text("x,label\n1,0\n")
    with pytest.raises(DataError, match=r"none can be held out of 1 sample\(s\); expected two or"):
        load_client_data(own(tmp_path), {"data-path": str(tmp_path / "a.csv")})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"dataset": "table", "data-dir": "x"}, "'image': dataset 'table' takes tabular"),
        ({"modality": "embedding", "dataset": "table", "data-dir": "x"}, "takes tabular or series"),
        ({"class-map": "0=a, 0=b"}, "must be label=class"),
        ({"class-map": "0"}, "must be label=class"),
    ],
)  # fmt: skip
def test_settings_that_cannot_be(changes, message):
    with pytest.raises(SettingsError, match=message):
        Settings.from_run_config(changes)


def test_a_cell_is_compared_without_its_writing():
    assert [cell_text(text) for text in ("1.0", " 1 ", "01", "1e0", "NaN", "?", "e\u0301")] == [
        "1", "1", "01", "1e0", "", "", "\u00e9",
    ]  # fmt: skip


@pytest.mark.skipif(
    not HEART.is_dir(), reason="heart is missing: set FEDDAG_TEST_DATA to the folder that has it"
)
def test_a_hospital_with_a_column_that_is_nearly_empty():
    options = TableOptions(label="num", categorical=frozenset({"cp"}))
    parts = read_table(HEART / "hungarian.csv", options)
    assert len(parts.train) == 294
    assert len(parts.train.samples.dtype.names) == 13
    assert np.isnan(parts.train.samples["ca"]).sum() == 291

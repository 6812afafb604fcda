"""The command check-data on tables, series and embeddings."""

import numpy as np
import pytest

from feddag_flwr.launcher import main

LABEL = ["--run-config", 'label-column="sick"']


def table(path, rows=40, **columns):
    rng = np.random.default_rng(1)
    cells = {
        "age": rng.normal(50, 9, rows).round(1).astype(str),
        "sex": rng.choice(["f", "m"], rows),
        **{name: np.asarray(values).astype(str) for name, values in columns.items()},
        "sick": np.where(rng.random(rows) < 0.5, "yes", "no"),
    }
    lines = [",".join(cells), *(",".join(row) for row in zip(*cells.values(), strict=True))]
    path.write_text("\n".join(lines))
    return path


def told(capsys):
    return " ".join(capsys.readouterr().out.split())


def test_a_good_table(tmp_path, capsys):
    assert main(["check-data", str(table(tmp_path / "ward.csv")), *LABEL]) == 0
    text = told(capsys)
    for words in (
        "1 columns of numbers, 1 of categories", "column age", "f, m", "principal vectors",
        "columns and levels", "rows of 5 numbers", "The data is good.", "No row and no label",
    ):  # fmt: skip
        assert words in text, words


def test_what_deserves_a_look(tmp_path, capsys):
    name = np.full(40, "a", dtype=object)
    name[7] = "rare"
    odd = {"id": np.arange(40), "same": np.ones(40), "hole": ["1.5"] + [""] * 39, "name": name}
    assert main(["check-data", str(table(tmp_path / "ward.csv", **odd)), *LABEL]) == 0
    text = told(capsys)
    assert "columns with one value only teach nothing here: same" in text
    assert "drop-columns: id" in text
    assert "hole (9" in text or "hole (10" in text


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "is empty"),
        ("age,sick\n1,yes\n", "none can be held out of 1 sample(s)"),
        ("age,sick\n1,yes\ntwo,yes\n", "line 3, column 'age': 'two' is no number"),
        ("age,ill\n1,yes\n", "no column 'sick' (setting label-column)"),
        ("age,sick\n1,yes\ninf,yes\n", "line 3, column 'age': is infinite"),
    ],
)
def test_a_bad_table_is_told_in_a_sentence(tmp_path, capsys, text, words):
    path = tmp_path / "ward.csv"
    path.write_text(text)
    assert main(["check-data", str(path), *LABEL]) == 1
    assert words in told(capsys)


@pytest.mark.parametrize(
    ("array", "samples", "words"),
    [
        ("features", np.random.default_rng(1).normal(size=(40, 13)), "13 columns of numbers"),
        ("embeddings", np.random.default_rng(1).normal(size=(40, 6)), "6 numbers"),
        ("series", -np.random.default_rng(1).random((40, 9, 2)), "series with 2 channel(s)"),
    ],
)
def test_the_modality_is_found_by_what_an_archive_holds(tmp_path, capsys, array, samples, words):
    labels = np.where(np.arange(40) % 2, "up", "down")
    np.savez(tmp_path / "a.npz", **{array: samples, "labels": labels})
    assert main(["check-data", str(tmp_path / "a.npz")]) == 0
    text = told(capsys)
    assert words in text
    assert "The data is good." in text


def test_equal_rows_are_named_by_their_lines(tmp_path, capsys):
    text = "age,sick\n" + "1,yes\n" * 4 + "2,no\n" * 4
    path = tmp_path / "ward.csv"
    path.write_text(text)
    assert main(["check-data", str(path), *LABEL]) == 0
    assert "2 test rows of 2 also in the training part" in told(capsys)

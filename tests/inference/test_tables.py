"""Models of tables put to use: the class of each row of a CSV, and an exported file."""

import csv
import json

import numpy as np
import pytest
import torch
from memory_grid import quick_settings

from feddag_flwr.data.samples import DataError
from feddag_flwr.inference.export import METADATA, export
from feddag_flwr.inference.predict import predict
from feddag_flwr.inference.rows import read_samples
from feddag_flwr.inference.served import load_served
from feddag_flwr.launcher import main
from feddag_flwr.simulation import run_in_process

HEADER = "pressure,colour,sick\n"


@pytest.fixture(scope="module")
def hospitals(tmp_path_factory):
    """A finished run of four hospitals, and the folder of their tables."""
    folder = tmp_path_factory.mktemp("hospitals")
    for number in range(4):
        rng = np.random.default_rng(number)
        sick = np.arange(60) % 2
        rows = zip(rng.normal(110 + 40 * sick, 8), np.where(sick, "red", "blue"), sick, strict=True)
        lines = "".join(f"{p:.1f},{c},{s}\n" for p, c, s in rows)
        (folder / f"h{number}.csv").write_text(HEADER + lines)
    run = run_in_process(
        quick_settings(
            dataset="table", scenario="own", modality="tabular", data_dir=str(folder),
            label_column="sick", class_map="0=well, 1=ill", num_clients=4, client_groups=1,
            run_dir=str(folder / "runs"), num_rounds=2, local_epochs=5, learning_rate=0.1,
            batch_size=16, algorithm="fedavg", participation=1.0,
        )
    )  # fmt: skip
    return run, folder


def test_each_row_gets_a_class(hospitals, tmp_path, capsys):
    run, folder = hospitals
    output = tmp_path / "classes.csv"
    path = folder / "h2.csv"
    assert main(["predict", str(run), "--client", "h2", str(path), "--output", str(output)]) == 0
    with output.open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [row["path"] for row in rows] == [f"{path}:line {line}" for line in range(2, 62)]
    assert {row["truth"] for row in rows} == {"ill", "well"}
    right = sum(row["label"] == row["truth"] for row in rows)
    assert right > 55
    assert f"60 rows, 60 of a known class: accuracy {right / 60:.2%}" in capsys.readouterr().err


def test_rows_need_no_label_nor_order_nor_all_columns(hospitals, tmp_path, capsys):
    run, _ = hospitals
    path = tmp_path / "new.csv"
    path.write_text("colour,note,pressure\nred,x,150\nblue,y,110\ngreen,z,\n")
    assert main(["predict", str(run), "--cluster", "0", str(path)]) == 0
    told = capsys.readouterr()
    assert [line.split("\t")[1] for line in told.out.splitlines()][:2] == ["ill", "well"]
    assert told.err == "3 rows\n"


def test_the_classifier_scales_as_the_clients_did(hospitals):
    run, folder = hospitals
    served = load_served(run, cluster=0)
    (batch,) = read_samples([folder / "h0.csv"], served)
    state = json.loads((sorted(run.glob("checkpoints/round-*"))[-1] / "state.json").read_text())
    (mean, deviation) = state["sample-scale"][0]
    rows = torch.from_numpy(batch.images)
    scaled = rows.clone()
    scaled[:, 0] = (rows[:, 0] - mean) / deviation
    torch.testing.assert_close(served.classifier(rows), served.classifier.model(scaled))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("age\n1\n", "none of the columns that the model takes, 'pressure', 'colour'"),
        ("pressure\nhigh\n", "line 2, column 'pressure': 'high' is no number"),
        ("", "is empty"),
    ],
)
def test_tables_that_do_not_fit_are_refused(hospitals, tmp_path, text, words):
    served = load_served(hospitals[0], cluster=0)
    path = tmp_path / "bad.csv"
    path.write_text(text)
    with pytest.raises(DataError, match=words):
        list(read_samples([path], served))


def test_one_broken_table_of_several_costs_itself_alone(hospitals, tmp_path, capsys):
    run, folder = hospitals
    bad = tmp_path / "bad.csv"
    bad.write_bytes(b"pressure\n\xff\n")
    paths = [str(bad), str(folder / "h0.csv"), str(tmp_path / "gone.csv")]
    assert main(["predict", str(run), "--cluster", "0", *paths]) == 0
    first, *good, last = capsys.readouterr().out.splitlines()
    assert first.startswith(f"{bad}\t\t\t{bad}: is not UTF-8 text")
    assert "gone.csv: no such file" in last
    assert good
    assert all(line.startswith(paths[1]) and "\t\t" not in line for line in good)
    assert main(["predict", str(run), "--cluster", "0", str(bad)]) == 2


def test_an_exported_model_says_what_its_numbers_are(hospitals, tmp_path):
    served = load_served(hospitals[0], cluster=0)
    written = json.loads(export(served, tmp_path / "model.pt").read_text())
    recipe = written.pop("recipe")
    assert written["input"] == {
        "name": "features", "shape": ["n", 5], "type": "float32",
        "numbers": ["pressure"], "levels": {"colour": ["blue", "red"]},
    }  # fmt: skip
    files = {METADATA: ""}
    loaded = torch.jit.load(str(tmp_path / "model.pt"), _extra_files=files)
    assert json.loads(files[METADATA]) == written | {"recipe": recipe}
    rows = torch.tensor([[150.0, 0, 0, 0, 1], [float("nan"), 1, 1, 0, 0]])
    assert torch.isfinite(loaded(rows)).all()
    assert written["labels"][int(loaded(rows)[0].argmax())] == "ill"


def prepared(row, recipe):
    """The numbers of a row, made by the recipe alone."""
    numbers = [0.0] * recipe["width"]
    for column in recipe["columns"]:
        cell = row.get(column["name"], "")
        if column["kind"] == "number":
            numbers[column["value-at"]] = float(cell or "nan")
            numbers[column["missing-flag-at"]] = float(not cell)
        else:
            numbers[column["level-at"].get(cell, column["missing-or-unknown-at"])] = 1.0
    return numbers


def test_onnx_by_its_recipe_says_what_predict_says(hospitals, tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    served = load_served(hospitals[0], client="h1")
    path = tmp_path / "new.csv"
    path.write_text("colour,pressure\nred,150\nblue,110.5\ngreen,\n,130\nred,90\n")
    export(served, tmp_path / "model.onnx")
    description = json.loads((tmp_path / "model.onnx.json").read_text())
    with path.open(newline="") as stream:
        rows = [prepared(row, description["recipe"]) for row in csv.DictReader(stream)]
    session = onnxruntime.InferenceSession(str(tmp_path / "model.onnx"))
    (logits,) = session.run(None, {"features": np.array(rows, np.float32)})
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    said = list(predict(served, read_samples([path], served)))
    expected = [each.probabilities for each in said]
    np.testing.assert_allclose(powers / powers.sum(axis=1, keepdims=True), expected, atol=1e-5)
    assert [description["labels"][place] for place in logits.argmax(axis=1)] == [
        each.label for each in said
    ]


def test_the_recipe_has_the_scale_that_the_model_applies_itself(hospitals, tmp_path):
    served = load_served(hospitals[0], cluster=0)
    written = json.loads(export(served, tmp_path / "model.pt").read_text())["recipe"]
    state = json.loads(
        (sorted(hospitals[0].glob("checkpoints/round-*"))[-1] / "state.json").read_text()
    )
    assert [written["columns"][0][key] for key in ("mean", "deviation")] == state["sample-scale"][0]
    assert written["columns"][1] == {
        "name": "colour", "kind": "category", "missing-or-unknown-at": 2,
        "level-at": {"blue": 3, "red": 4},
    }  # fmt: skip

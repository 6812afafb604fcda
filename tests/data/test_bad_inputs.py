"""The table of bad inputs: each ends in a right result or in one sentence, wherever it is read."""

from pathlib import Path

import numpy as np
import pytest
import torch
from bad_inputs import CASES, Refused
from bad_inputs.page import page
from bad_inputs.tables import cell, column, table, text, without
from flwr.app import Context, Message, RecordDict

from client_app.app import app
from feddag_flwr.data.own import load_own_data
from feddag_flwr.data_check.inspection import kind_of
from feddag_flwr.data_check.seen import as_seen
from feddag_flwr.launcher import main
from feddag_flwr.modalities import ModalityError, load_modality
from feddag_flwr.records import DescribeRequest, Description
from feddag_flwr.settings import Settings

EACH = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name.replace(" ", "-"))
MODALITY = {"modality": "image"}
TABULAR = load_modality("tabular")
PAGE = Path(__file__).parents[2] / "docs" / "bad-inputs.md"


def quoted(settings):
    """Write settings as the command line has them."""
    return " ".join(f'{k}="{v}"' if isinstance(v, str) else f"{k}={v}" for k, v in settings.items())


def missing(words, text):
    """Return those of the words that a text has not."""
    return [word for word in words if word not in text]


def test_the_page_has_the_whole_table():
    assert PAGE.read_text(encoding="utf-8") == page(CASES)


def test_there_are_forty_cells_at_least_and_no_two_alike():
    assert len({case.name for case in CASES}) == len(CASES) >= 40


@EACH
def test_check_data(case, tmp_path, capsys):
    path = case.make(tmp_path)
    given = {key: value for key, value in case.settings.items() if key != "dataset"}
    status = main(["check-data", str(path), "--run-config", quoted(given) or "seed=0"])
    told = capsys.readouterr()
    assert told.err == ""
    if isinstance(case.outcome, Refused):
        assert status == 1, told.out
        (line,) = [each for each in told.out.splitlines() if each.startswith("unusable: ")]
        assert not missing(case.outcome.says, line), line
    else:
        assert status == 0, told.out
        text = " ".join(told.out.replace("│", " ").split())
        assert not missing(case.outcome.says, text), text


@EACH
def test_at_the_node(case, tmp_path):
    path = case.make(tmp_path)
    kind = case.settings.get("dataset") or (kind_of(path) if path.exists() else "image-folder")
    settings = Settings.from_run_config(
        {**MODALITY, **case.settings, "scenario": "own", "dataset": kind, "model": "auto"}
    )
    node = {"data-path": str(path), "client-name": "ward-3", "cache-path": str(tmp_path / "cache")}
    context = Context(1, 7, node, RecordDict(), settings.to_run_config())
    reply = app(Message(DescribeRequest(0).encode(), 7, "query.describe"), context)
    outcome = case.at_node or case.outcome
    if isinstance(outcome, Refused):
        assert reply.has_error()
        assert len(reply.error.reason.splitlines()) == 1
        assert not missing(outcome.says, reply.error.reason), reply.error.reason
        return
    told = Description.decode(
        reply.content, settings.deployment.max_client_samples, settings.data.modality
    )
    assert told.train_samples + told.test_samples == outcome.samples
    seen = as_seen(load_own_data(settings, node), settings)
    for part in (seen.data.train, seen.data.test):
        samples = seen.modality.to_device(torch.device("cpu"), part, seen.scale)
        inputs = samples.inputs(torch.arange(len(part)))
        assert torch.isfinite(inputs).all()
        assert np.isin(part.labels, np.arange(len(seen.data.class_names))).all()


@pytest.mark.parametrize(
    ("make", "refusal"),
    [
        (table(lambda cells: [row[::-1] for row in cells]), None),
        (table(without(2)), None),
        (table(lambda cells: [[*row, f"{len(row[0])}"] for row in cells]), None),
        (table(cell(5, 1, "diverse")), None),
        (text("pulse,sick\n1,a\n2,a\n3,b\n4,b\n"), "none of the federation's columns, 'age'"),
        (
            table(column(0, lambda place: f"about {place}")),
            "column 'age' holds texts such as 'about",
        ),
    ],
    ids=["other order", "column missing", "column more", "level unseen", "nothing alike", "texts"],
)  # fmt: skip
def test_a_table_beside_those_of_a_federation(make, refusal, tmp_path):
    """The federation's columns are those of the good table; a client's are others."""
    (tmp_path / "good").mkdir()
    (tmp_path / "other").mkdir()
    settings = Settings.from_run_config(
        {"modality": "tabular", "label-column": "sick", "scenario": "own", "dataset": "table"}
    )
    good, other = (
        load_own_data(settings, {"data-path": str(made(tmp_path / name)), "client-name": name})
        for made, name in ((table(), "good"), (make, "other"))
    )
    spec = good.spec_by(TABULAR)
    if refusal:
        with pytest.raises(ModalityError, match=refusal):
            TABULAR.check_fit(other.spec_by(TABULAR), spec)
        return
    TABULAR.check_fit(other.spec_by(TABULAR), spec)
    rows = TABULAR.in_spec(other.train.samples, spec)
    assert rows.shape == (len(other.train), *spec.shape)
    assert np.isfinite(TABULAR.subspace_matrix(rows, TABULAR.plain_scale(spec))).all()

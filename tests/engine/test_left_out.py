"""What a run did without stands in its closing table, in summary.json, and in its exit status."""

import json
from dataclasses import replace

import numpy as np
import pytest
from memory_grid import QUICK, MemoryGrid, failed, quick_settings, run_quickly
from PIL import Image

from feddag_flwr.engine.registration import FederationError
from feddag_flwr.federation.left_out import LeftOut
from feddag_flwr.launcher import main
from feddag_flwr.records import Description, RecordError
from feddag_flwr.report.left_out import left_out_in_words
from feddag_flwr.simulation import run_in_process

pytestmark = pytest.mark.integration

FAST = {"algorithm": "fedavg", "num-rounds": 1, "model": "small", "scenario": "own"}


def summary_of(folder):
    return json.loads((folder / "summary.json").read_text())


def write_wards(root, count=3, classes=("bag", "boot"), files=6, side=8):
    """Write a folder of images for each client."""
    for ward in range(count):
        for label, name in enumerate(classes):
            folder = root / f"ward-{ward}" / name
            folder.mkdir(parents=True)
            for index in range(files):
                rng = np.random.default_rng((ward, label, index))
                pixels = rng.integers(0, 256, (side, side), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / f"{index}.png")
    return root


def run_on(tmp_path, data, dataset="image-folder", count=3, **changes):
    given = {"dataset": dataset, "data_dir": str(data), "num_clients": count, "run_name": "run"}
    return run_in_process(
        quick_settings(**{**FAST, **given, "run_dir": str(tmp_path / "runs"), **changes})
    )


def test_a_run_that_used_everything_has_nothing_to_say(tmp_path, capsys):
    folder = run_on(tmp_path, write_wards(tmp_path / "data"), strict=True)
    assert "left-out" not in summary_of(folder)
    assert "left out" not in capsys.readouterr().out


def test_files_clients_and_classes_left_out_are_in_table_and_summary(tmp_path, capsys):
    data = write_wards(tmp_path / "data", count=4)
    (data / "ward-0/bag/0.png").write_bytes(b"no image")
    (data / "ward-0/bag/notes.txt").write_text("no image either, and none that anybody misses")
    (data / "ward-1/train/bag").mkdir(parents=True)  # the images beside `train` belong to nobody
    (data / "ward-1/bag/0.png").rename(data / "ward-1/train/bag/0.png")
    (data / "ward-1/bag/1.png").rename(data / "ward-1/train/bag/1.png")
    (data / "ward-2/sandal").mkdir()
    for file in data.glob("ward-3/*/*.png"):
        file.write_bytes(b"")
    left_out = summary_of(run_on(tmp_path, data, count=4))["left-out"]
    assert left_out["files"] == {"ward-0": 1, "ward-1": 10}
    assert left_out["classes"] == ["sandal"]
    (client,) = left_out["clients"]
    assert client["at"] == "describe"
    assert "client 'ward-3'" in client["reason"]
    assert "no file can be read" in client["reason"]
    told = capsys.readouterr().out
    assert "left out: 1 file of client ward-0, whose log names them" in told
    assert "left out: 10 files of client ward-1" in told
    assert "classes without a test sample at any client: sandal" in told
    assert f"left out: client {client['client']} (describe): {client['reason']}" in told


def test_strict_ends_with_status_1_once_all_is_written(tmp_path, capsys):
    data = write_wards(tmp_path / "data")
    (data / "ward-0/bag/0.png").write_bytes(b"no image")
    with pytest.raises(FederationError, match=r"left out, and strict = true: files; .*summary"):
        run_on(tmp_path, data, strict=True)
    assert summary_of(tmp_path / "runs/run")["left-out"] == {"files": {"ward-0": 1}}
    given = {**QUICK, **FAST, "dataset": "image-folder", "data-dir": str(data), "num-clients": 3}
    given |= {"run-dir": str(tmp_path / "more"), "strict": True}
    config = " ".join(f"{k}={json.dumps(v)}" for k, v in given.items())
    assert main(["run", "--in-process", "--run-config", config]) == 1
    assert "strict = true: files" in capsys.readouterr().err


def test_columns_that_few_clients_have_are_told(tmp_path):
    data = tmp_path / "data"
    data.mkdir()
    for ward in range(3):
        rows = [f"{n},{n * n},{'ab'[n % 2]}" for n in range(12)]
        names = "age,pulse,label" if ward else "age,acid,label"
        (data / f"ward-{ward}.csv").write_text("\n".join([names, *rows]))
    folder = run_on(tmp_path, data, "table", **{"modality": "tabular", "model": "auto"})
    assert summary_of(folder)["left-out"] == {"columns": {"ward-0": ["acid"]}}


def test_an_update_that_was_lost_is_told_and_one_before_joining_is_not(tmp_path):
    failures = []

    def tamper(partition, action, reply):
        if action == "train.profile" and partition == 2 and not failures:
            failures.append(partition)
            return failed(reply)  # it is asked again, and comes in
        return failed(reply) if action == "train.dual" and partition == 1 else reply

    run_quickly(tmp_path, tamper=tamper, num_clients=4, num_rounds=3, participation=1.0)
    left_out = summary_of(tmp_path / "run")["left-out"]
    assert failures == [2]
    assert left_out == {
        "clients": [{"client": "client-1", "at": "train", "reason": "error 2: ValueError: broken"}]
    }


def test_who_is_gone_at_the_end_is_told(tmp_path):
    def tamper(partition, action, reply):
        if action == "evaluate" and partition == 2:
            grids[0].connected.discard(103)
        return reply

    changes = {"num_clients": 4, "num_rounds": 3, "algorithm": "fedavg", "evaluate_every": 1}
    grids = [MemoryGrid(quick_settings(**changes), tamper=tamper)]
    run_quickly(tmp_path, grid=grids[0], **changes)
    (client,) = summary_of(tmp_path / "run")["left-out"]["clients"]
    assert client == {"client": "client-2", "at": "the end", "reason": "not connected"}


def test_a_checkpoint_keeps_what_was_noted():
    noted = LeftOut()
    assert not noted.anything
    noted.note_client("ward-1", "train", "late")
    noted.note_client("ward-1", "train", "broken")
    noted.note_client("ward-2", "profile", "late")
    noted.note_client("on node 7", "describe", "refused")
    noted.note_data("ward-2", 3, ["age"])
    noted.note_data("ward-3", 1, [])
    noted.note_data("ward-3", 0, [])  # mended meanwhile
    again = LeftOut()
    again.load_state_dict(json.loads(json.dumps(noted.state_dict())))
    for each in (noted, again):
        assert each.anything
        assert each.summary({"ward-1", "ward-2"}, {7}, {}, []) == {
            "clients": [{"client": "ward-1", "at": "train", "reason": "broken"}],
            "files": {"ward-2": 3},
            "columns": {"ward-2": ["age"]},
        }
        assert [c["client"] for c in each.summary(set(), set(), {}, [])["clients"]] == [
            "on node 7", "ward-1", "ward-2"
        ]  # fmt: skip


def test_the_table_has_a_line_for_each():
    lines = list(
        left_out_in_words(
            {
                "clients": [{"client": "a", "at": "train", "reason": "late"}],
                "files": {"b": 1200},
                "columns": {"c": ["x", "y"]},
                "classes": ["cat"],
            }
        )
    )
    assert lines == [
        "left out: client a (train): late",
        "left out: 1,200 files of client b, whose log names them",
        "left out: columns of client c that fewer than half of the clients have: x, y",
        "left out: classes without a test sample at any client: cat",
    ]
    assert list(left_out_in_words({})) == []


def test_a_number_of_files_that_cannot_be_is_refused():
    moments = ((0.5, 0.3),)
    told = Description("a", ("x", "y"), (1, 8, 8), 5, 5, moments, files_left_out=3)
    assert Description.decode(told.encode(), 9).files_left_out == 3
    assert "files-left-out" not in replace(told, files_left_out=0).encode()["info"]
    for wrong in (-1, 10):
        with pytest.raises(RecordError, match=f"files-left-out = {wrong} is outside 0..9"):
            Description.decode(replace(told, files_left_out=wrong).encode(), 9)

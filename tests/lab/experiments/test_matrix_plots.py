"""The figure of proximity matrices: which are drawn, in which order of clients."""

import numpy as np
import pytest
from fabricated_results import write_suite, write_trial
from matplotlib.figure import Figure

from feddag_lab.experiments.matrix_plots import Picture, _draw, _picture, plot_matrices
from feddag_lab.experiments.results import read_results
from feddag_lab.experiments.tables import MATRICES, write_report

GROUPS = {"a": 1, "b": 0, "c": 1, "d": 0}
SCORES = dict.fromkeys(GROUPS, 0.5)


def write_matrix(trial, **arrays):
    np.savez_compressed(trial / "proximity.npz", clients=np.array(sorted(GROUPS)), **arrays)


def experiment(folder):
    write_suite(folder, ["FedDAG", "PACFL", "FedAvg"], {"one": None, "two": None}, [1, 2])
    trials = {
        (name, seed): write_trial(folder, name, "one", seed, SCORES)
        for name in ("FedDAG", "PACFL", "FedAvg")
        for seed in (1, 2)
    }
    number = np.arange(4)
    fused = np.abs(number[:, None] - number) / 4.0
    write_matrix(trials["FedDAG", 2], fused=fused)
    write_matrix(trials["PACFL", 1], **{"principal-angle": fused})
    return fused


def test_clients_are_sorted_by_true_group_and_the_first_seed_with_a_matrix_counts(
    tmp_path, monkeypatch
):
    fused = experiment(tmp_path)
    results = read_results(tmp_path)
    runs = results.finished("one", "FedDAG")
    for run in runs.values():
        monkeypatch.setitem(run.__dict__, "true_groups", GROUPS)
    picture = _picture(runs)
    assert picture.seed == 2
    assert picture.borders.tolist() == [2]
    order = [1, 3, 0, 2]
    np.testing.assert_array_equal(picture.matrix, fused[np.ix_(order, order)])
    assert _picture(results.finished("one", "PACFL")) is None
    assert _picture(results.finished("one", "FedAvg")) is None


def test_a_client_of_no_known_group_comes_last(tmp_path, monkeypatch):
    fused = experiment(tmp_path)
    runs = read_results(tmp_path).finished("one", "FedDAG")
    for run in runs.values():
        monkeypatch.setitem(run.__dict__, "true_groups", {"b": 1, "c": 0, "d": 0})
    picture = _picture(runs)
    order = [2, 3, 1, 0]
    np.testing.assert_array_equal(picture.matrix, fused[np.ix_(order, order)])
    assert picture.borders.tolist() == [2, 3]
    for run in runs.values():
        monkeypatch.setitem(run.__dict__, "true_groups", {})
    picture = _picture(runs)
    np.testing.assert_array_equal(picture.matrix, fused)
    assert picture.borders.tolist() == []


def spoil(path, kind):
    content = path.read_bytes()
    if kind == "an array is missing":
        np.savez_compressed(path, fused=np.zeros((4, 4)))
    elif kind == "fewer clients":
        np.savez_compressed(path, fused=np.zeros((4, 4)), clients=np.array(["a", "b"]))
    elif kind == "no matrix":
        np.savez_compressed(path, fused=np.float64(1), clients=np.array(["a", "b"]))
    elif kind == "pickled":
        np.savez_compressed(path, fused=np.array([{}]), clients=np.array(["a"]))
    elif kind == "a byte":
        middle = content.index(b"fused.npy") + 60
        path.write_bytes(content[:middle] + b"\xff\xff\xff" + content[middle + 3 :])
    else:
        path.write_bytes({"truncated": content[:-40], "empty": b"", "text": b"no archive"}[kind])


@pytest.mark.parametrize(
    "kind",
    ["truncated", "empty", "text", "a byte", "an array is missing", "fewer clients", "no matrix",
     "pickled"],
)  # fmt: skip
def test_a_damaged_matrix_is_named_and_costs_its_own_picture_alone(tmp_path, caplog, kind):
    write_suite(tmp_path, ["FedDAG", "FedAvg"], {"one": None, "two": None}, [1, 2])
    matrix = np.abs(np.arange(4)[:, None] - np.arange(4)) / 4.0
    for scenario in ("one", "two"):
        for seed in (1, 2):
            trial = write_trial(tmp_path, "FedDAG", scenario, seed, SCORES)
            write_matrix(trial, fused=matrix)
            if seed == 1 or scenario == "two":
                spoil(trial / "proximity.npz", kind)
    results = read_results(tmp_path)
    assert _picture(results.finished("one", "FedDAG")).seed == 2
    (record,) = caplog.records
    assert "proximity.npz is not drawn" in record.getMessage()
    assert _picture(results.finished("two", "FedDAG")) is None
    assert len(caplog.records) == 3
    assert plot_matrices(tmp_path / "x.png", results)
    assert (tmp_path / "x.png").stat().st_size > 1000


@pytest.mark.parametrize("top", [0.0, 0.04, 1.0])
def test_every_picture_is_on_the_scale_of_a_and_lines_part_the_groups(top):
    axes = Figure().subplots()
    matrix = np.array([[0, 0, top], [0, 0, top], [top, top, 0]])
    _draw(axes, Picture(matrix, np.array([2]), 1))
    (image,) = axes.images
    assert image.get_clim() == (0.0, 1.0)
    np.testing.assert_array_equal(image.get_array(), matrix)
    lines = {tuple(map(tuple, line.get_xydata())) for line in axes.lines}
    assert lines == {((0, 1.5), (1, 1.5)), ((1.5, 0), (1.5, 1))}  # between the second and third


def test_the_report_shows_them_where_there_are_any(tmp_path):
    experiment(tmp_path / "some")
    text = write_report(tmp_path / "some").read_text()
    assert f"![Proximity matrices]({MATRICES})" in text
    assert (tmp_path / "some" / "report" / MATRICES).stat().st_size > 1000

    write_suite(tmp_path / "none", ["FedDAG"], {"one": None}, [1])
    write_trial(tmp_path / "none", "FedDAG", "one", 1, SCORES)
    assert not plot_matrices(tmp_path / "x.png", read_results(tmp_path / "none"))
    assert MATRICES not in write_report(tmp_path / "none").read_text()

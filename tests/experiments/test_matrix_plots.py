"""The figure of proximity matrices: which are drawn, in which order of clients."""

import numpy as np
import pytest
from fabricated_results import write_cell, write_suite
from matplotlib.figure import Figure

from feddag_flwr.experiments.matrix_plots import Picture, _draw, _picture, plot_matrices
from feddag_flwr.experiments.results import read_results
from feddag_flwr.experiments.tables import MATRICES, write_report

GROUPS = {"a": 1, "b": 0, "c": 1, "d": 0}
SCORES = dict.fromkeys(GROUPS, 0.5)


def write_matrix(cell, **arrays):
    np.savez_compressed(cell / "proximity.npz", clients=np.array(sorted(GROUPS)), **arrays)


def experiment(folder):
    write_suite(folder, ["FedDAG", "PACFL", "FedAvg"], {"one": None, "two": None}, [1, 2])
    cells = {
        (name, seed): write_cell(folder, name, "one", seed, SCORES)
        for name in ("FedDAG", "PACFL", "FedAvg")
        for seed in (1, 2)
    }
    number = np.arange(4)
    fused = np.abs(number[:, None] - number) / 4.0
    write_matrix(cells["FedDAG", 2], fused=fused)
    write_matrix(cells["PACFL", 1], **{"principal-angle": fused})
    return fused


def test_clients_are_sorted_by_true_group_and_the_first_seed_with_a_matrix_counts(
    tmp_path, monkeypatch
):
    fused = experiment(tmp_path)
    results = read_results(tmp_path)
    runs = results.runs("one", "FedDAG")
    for run in runs.values():
        monkeypatch.setitem(run.__dict__, "true_groups", GROUPS)
    picture = _picture(runs)
    assert picture.seed == 2
    assert picture.borders.tolist() == [2]
    order = [1, 3, 0, 2]
    np.testing.assert_array_equal(picture.matrix, fused[np.ix_(order, order)])
    assert _picture(results.runs("one", "PACFL")) is None
    assert _picture(results.runs("one", "FedAvg")) is None


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
    write_cell(tmp_path / "none", "FedDAG", "one", 1, SCORES)
    assert not plot_matrices(tmp_path / "x.png", read_results(tmp_path / "none"))
    assert MATRICES not in write_report(tmp_path / "none").read_text()

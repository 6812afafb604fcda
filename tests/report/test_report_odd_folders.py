"""Reports of runs that did not end, of folders that lack files or are damaged, of many clients."""

import json
import shutil

import numpy as np
import pytest
from memory_grid import quick_settings
from report_pages import ReportPage, read, read_lines, write, write_folder, write_lines
from scipy.cluster.hierarchy import dendrogram as scipy_dendrogram
from scipy.cluster.hierarchy import linkage
from scipy.spatial.distance import squareform

from feddag_flwr.report.matrices import coarse, dendrogram
from feddag_flwr.report.page import write_report
from feddag_flwr.simulation import run_in_process

MOST_BYTES = 3_000_000
EVIL = "<script>alert({})</script>"
NAMES = [
    EVIL, '"><img src=x onerror=alert({})>', "</script></style></svg>{}", "$x_{}^2$",
    "{}\u202eevil", "a\nb{}\x00", "\ud800{}", "&lt;b&gt;{}", "--output={}", "{{{{ 7 * 7 }}}}{}",
    "名前{}", "x" * 190 + "{}",
]  # fmt: skip
FILES = [
    "settings.json", "metrics.jsonl", "seconds.jsonl", "summary.json", "clustering.json",
    "proximity.npz", "sessions.jsonl", "checkpoints/round-000003/state.json",
]  # fmt: skip


@pytest.fixture
def folder(tmp_path):
    return write_folder(tmp_path / "run")


def page_of(folder):
    path = write_report(folder)
    assert path.stat().st_size < MOST_BYTES
    return ReportPage(path.read_text(encoding="utf-8"))


def test_a_run_that_has_not_ended_shows_what_there_is(folder):
    (folder / "summary.json").unlink()
    settings = read(folder / "settings.json") | {"num-rounds": 9}
    write(folder / "settings.json", settings)
    page = page_of(folder)
    assert page.lead.startswith(
        "The run has not ended: there is no summary.json, and 3 of 9 rounds are over; after round "
        "3 the mean balanced accuracy was 50.00 %"
    )
    assert len(page.rows("clients")) == 6
    assert "table-clusters" not in page.tables
    assert any(line.endswith("--resume " + str(folder)) for line in page.commands)


def test_a_run_that_is_in_its_profile_has_a_page(folder):
    for name in FILES[1:6]:
        (folder / name).unlink()
    shutil.rmtree(folder / "checkpoints")
    page = page_of(folder)
    assert "not even the profile is" in page.lead
    assert [line.split()[1] for line in page.commands] == ["report"]


@pytest.mark.integration
@pytest.mark.parametrize(("algorithm", "rounds"), [("fedavg", 2), ("pacfl", 2), ("feddag", 0)])
def test_runs_of_other_kinds_have_a_page(algorithm, rounds, tmp_path):
    folder = run_in_process(
        quick_settings(
            run_dir=str(tmp_path), run_name="run", algorithm=algorithm, num_rounds=rounds,
            observers="round-log, closing-table",
        )
    )  # fmt: skip
    page = page_of(folder)
    summary = read(folder / "summary.json")
    figure = f"{100 * summary['overall']['balanced-accuracy']:.2f} %"
    assert f"After {rounds} rounds, 6 clients" in page.lead
    assert figure in page.lead
    assert page.faults == []
    assert len(page.rows("clients")) == 6
    where = "with one model" if algorithm == "fedavg" else f"in {summary['num-clusters']} clusters"
    assert where in page.lead


@pytest.mark.parametrize("name", NAMES)
def test_names_are_texts_and_nothing_else(name, tmp_path):
    folder = write_folder(tmp_path / "run", name=name, class_name=name)
    summary, said = read(folder / "summary.json"), name.format(0)
    summary["left-out"] = {
        "clients": [{"client": said, "at": said, "reason": said}], "classes": [said]
    }  # fmt: skip
    summary["without-cluster"] = [said]
    write(folder / "summary.json", summary)
    clustering = read(folder / "clustering.json") | {"odd-clients": {said: said}}
    write(folder / "clustering.json", clustering)
    settings = read(folder / "settings.json") | {said: said, "dataset": said, "metrics": "accuracy"}
    write(folder / "settings.json", settings)
    plain = page_of(write_folder(tmp_path / "plain"))
    page = page_of(folder)
    assert page.faults == []
    assert page.tags.count("script") == plain.tags.count("script") == 1
    assert page.tags.count("style") == 1
    assert set(page.tags) == set(plain.tags) | {"ul", "li"}
    handlers = {key for key, _ in page.attributes if key.startswith("on")}
    assert not handlers
    shown = [row["client"] for row in page.rows("clients")]
    assert len(shown) == 6
    text = (folder / "report.html").read_text(encoding="utf-8")
    assert "alert(0)" not in text.split("<script>")[-1]
    assert not set("\u202e\x00") & set(text)
    if name in (EVIL, "$x_{}^2$", "名前{}", "&lt;b&gt;{}"):  # short, and all of it can be seen
        assert shown == sorted(name.format(index) for index in range(6))
        assert sum(each == shown[0] or each == shown[0][:19] + "…" for each in page.svg_texts) >= 4


def test_lines_that_cannot_be_read_are_skipped_and_counted(folder):
    path = folder / "metrics.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([lines[0], b"\xff\xfe\n", *lines[1:], b"[1]\n", lines[-1][:50]]))
    page = page_of(folder)
    (fault,) = page.faults
    assert "metrics.jsonl: 3 lines cannot be read and are skipped." in fault
    assert page.lead.startswith("After 3 rounds, 6 clients")


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("content", [b"", b"[]", b"\x00\xff"], ids=repr)
def test_a_file_that_is_damaged_costs_what_it_held(name, content, folder):
    (folder / name).write_bytes(content)
    page = page_of(folder)
    quiet = {"metrics.jsonl", "seconds.jsonl", "sessions.jsonl"}  # an empty one has lost nothing
    if not name.startswith("checkpoints") and not (name in quiet and not content):
        assert name in page.faults[0]
    assert page.lead


def test_a_file_that_is_cut_short_costs_what_it_held(folder):
    for name in FILES:
        if (path := folder / name).exists():
            content = path.read_bytes()
            path.write_bytes(content[: len(content) // 2])
    page = page_of(folder)
    for name in ("settings.json", "summary.json", "clustering.json", "proximity.npz"):
        assert name in page.faults[0]


def scrambled(value, rng):
    """A JSON value some of whose parts are of other kinds."""
    if rng.uniform() < 0.25:
        others = [None, True, -3, 1.5, "x", [], {}, [[1]], {"a": 1}, [None], 10**30, {"": {"": []}}]
        return others[rng.integers(len(others))]
    if isinstance(value, dict):
        return {key: scrambled(each, rng) for key, each in value.items()}
    if isinstance(value, list):
        return [scrambled(each, rng) for each in value]
    return value


@pytest.mark.parametrize("seed", range(12))
def test_values_of_other_kinds_never_end_a_report(seed, folder):
    rng = np.random.default_rng(seed)
    for name in ("settings.json", "summary.json", "clustering.json", FILES[-1]):
        found = read(folder / name)
        write(folder / name, {key: scrambled(each, rng) for key, each in found.items()})
    for name in ("metrics.jsonl", "seconds.jsonl"):
        lines = [{"round": n} | {key: scrambled(each, rng) for key, each in line.items()}
                 for n, line in enumerate(read_lines(folder / name))]  # fmt: skip
        write_lines(folder / name, lines)
    page_of(folder)


def test_missing_metrics_are_told_as_such(folder):
    lines = read_lines(folder / "metrics.jsonl")
    for line in lines:
        line.pop("all", None)
    write_lines(folder / "metrics.jsonl", lines)
    summary = read(folder / "summary.json") | {"overall": {"clients": 6}, "spread": {}}
    write(folder / "summary.json", summary)
    page = page_of(folder)
    assert "the mean balanced accuracy is n/a" in page.lead
    assert {row["balanced accuracy"] for row in page.rows("clients")} == {"n/a"}


def test_settings_of_another_version_are_listed_as_they_are(folder):
    settings = read(folder / "settings.json") | {"source": "digits", "own-rate": 2}
    write(folder / "settings.json", settings)
    rows = {row["setting"]: row for row in page_of(folder).rows("settings")}
    assert rows["source"]["default"] == "no setting of this version"
    assert rows["own-rate"]["value"] == "2"


@pytest.mark.parametrize(("clients", "clusters"), [(1000, 5), (3000, 400)])
def test_a_report_of_many_clients_is_small(clients, clusters, tmp_path):
    folder = write_folder(tmp_path / "run", clients=clients, clusters=clusters)
    page = page_of(folder)
    assert page.faults == []
    assert len(page.rows("clients")) == min(clients, 2000)
    if clients > 2000:  # the worst ones
        by_client = read_lines(folder / "metrics.jsonl")[-1]["all"]["by-client"]
        values = {name: each["balanced-accuracy"] for name, each in by_client.items()}
        assert [row["client"] for row in page.rows("clients")] == sorted(
            values, key=lambda name: (values[name], name)
        )[:2000]


def test_matrices_of_too_many_clients_are_not_read(folder, monkeypatch):
    monkeypatch.setattr("feddag_flwr.report.reading.MAX_MATRIX", 5)
    page = page_of(folder)
    assert "Matrices of more than 5 clients are not drawn." in page.faults[0]


def test_the_dendrogram_is_scipy_s(folder):
    matrix = np.load(folder / "proximity.npz")["fused"]
    for method in ("average", "complete", "single"):
        tree = dendrogram(matrix, method)
        theirs = scipy_dendrogram(linkage(squareform(matrix), method), no_plot=True)
        assert tree.leaves.tolist() == theirs["leaves"]
        ours = sorted(
            ([round(x * 10 + 5, 2) for x, _ in line], [y for _, y in line]) for line in tree.lines
        )
        expected = sorted(zip(theirs["icoord"], theirs["dcoord"], strict=True))
        for (x, y), (their_x, their_y) in zip(ours, expected, strict=True):
            np.testing.assert_allclose(x, their_x, atol=0.1)
            np.testing.assert_allclose(y, their_y, atol=1e-4)


def test_a_deep_dendrogram_and_one_without_numbers_are_no_trouble():
    places = np.cumsum(np.linspace(1, 2, 3000))
    chain = np.abs(places[:, None] - places)
    assert len(dendrogram(chain / chain.max(), "single").lines) == 2999
    assert dendrogram(np.full((3, 3), np.nan), "average") is None
    assert dendrogram(np.zeros((1, 1)), "average") is None


def test_a_coarse_matrix_holds_means_over_its_blocks():
    matrix = np.arange(49.0).reshape(7, 7)
    shrunk = coarse(matrix, 3)  # blocks of 2, 2 and 3
    edges = [(0, 2), (2, 4), (4, 7)]
    expected = [[matrix[a:b, c:d].mean() for c, d in edges] for a, b in edges]
    np.testing.assert_allclose(shrunk, expected)
    assert coarse(matrix, 7) is matrix


def test_one_round_and_one_client_are_enough(tmp_path):
    folder = write_folder(tmp_path / "run", clients=1, clusters=1, rounds=1)
    page = page_of(folder)
    assert page.faults == []
    assert page.lead.startswith("After 1 round, 1 client with one model reach")
    assert json.loads((folder / "settings.json").read_text())["num-rounds"] == 1

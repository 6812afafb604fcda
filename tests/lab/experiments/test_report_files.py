import csv

import numpy as np
import pandas as pd
import pytest
from fabricated_results import evaluation, lines_of, write_suite, write_trial
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.text import Text

from feddag_lab.experiments import plots, tables
from feddag_lab.experiments.markdown import duration, interval, mean_of, mean_pm, plain
from feddag_lab.experiments.plots import mean_curve, spread, styles_of
from feddag_lab.experiments.published import differing_settings
from feddag_lab.experiments.results import read_results
from feddag_lab.experiments.statistics import Interval
from feddag_lab.experiments.tables import write_report

SCENARIO = "I 30 %, alpha' 1"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """FedDAG on both seeds, FedDAG* on one, IFCA failed, FedAvg damaged in one of two."""
    folder = tmp_path_factory.mktemp("results")
    algorithms = ["FedAvg", "IFCA", "FedDAG*", "FedDAG"]
    scenarios = {SCENARIO: "table_10/label_skew_30/fmnist", "a | b": None}
    write_suite(folder, algorithms, scenarios, [1, 2])
    write_trial(folder, "FedDAG", SCENARIO, 1, {"a": 0.90, "b": 0.80},
               extra={"tuned": evaluation({"a": 0.92, "b": 0.86})})  # fmt: skip
    write_trial(folder, "FedDAG", SCENARIO, 2, {"a": 0.94, "b": 0.80},
               extra={"tuned": evaluation({"a": 0.94, "b": 0.84})})  # fmt: skip
    write_trial(folder, "FedDAG*", SCENARIO, 1, {"a": 0.85, "b": 0.80})
    write_trial(folder, "IFCA", SCENARIO, 1, status="failed", reason="out of\nmemory | disk")
    write_trial(folder, "FedAvg", SCENARIO, 1, {"a": 0.50, "b": 0.60})
    write_trial(folder, "FedAvg", SCENARIO, 2, {"a": 1.0, "b": 1.0},
               lines=lines_of({"a": 1.0, "b": 1.0})[:-1])  # fmt: skip
    unseen = {"unseen": evaluation({"u": 0.70}), "unseen-tuned": evaluation({"u": 0.74})}
    write_trial(folder, "FedDAG", "a | b", 1, {"a": 0.90, "b": 0.80}, extra=unseen,
               settings={"held-out-share": 0.34})  # fmt: skip
    write_trial(folder, "FedAvg", "a | b", 1, {"a": 0.40, "b": 0.60},
               settings={"held-out-share": 0.34})  # fmt: skip
    return folder


@pytest.fixture(scope="module")
def report(folder):
    """The text of its report, where a figure of an earlier one lay."""
    stale = folder / "report" / "curves-09-gone.png"
    stale.parent.mkdir()
    stale.write_bytes(b"")
    path = write_report(folder)
    assert path == folder / "report" / "report.md"
    return path.read_text()


@pytest.fixture
def undrawn(monkeypatch):
    """Draw no figure to its file, which takes longest, where a test reads the text alone."""
    monkeypatch.setattr(plots, "save", lambda figure, path: None)


def rows_after(report, heading):
    """The first table below a heading, its rows as lists of trials, the header first."""
    lines = report[report.index(heading) :].splitlines()[1:]
    start = next(i for i, line in enumerate(lines) if line.startswith("|"))
    rows = []
    for line in lines[start:]:
        if not line.startswith("|"):
            break
        rows.append([trial.strip() for trial in line.replace(r"\|", "/").strip("|").split("|")])
    return [rows[0], *rows[2:]]


def read_csv(path):
    with path.open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def test_the_accuracy_table_by_hand(report):
    header, *rows = rows_after(report, "### Table 10, label skew 30 %, fmnist: I 30")
    assert header[:5] == ["algorithm", "ours", "seeds", "published", "after fine-tuning"]
    found = {row[0]: row[1:] for row in rows}
    assert list(found) == ["FedAvg", "IFCA", r"FedDAG\*", "**FedDAG**"]
    # 85 and 87, deviation sqrt(2); tuned 89 and 89; 900 bytes a client, 800 of them training.
    assert found["**FedDAG**"] == [
        "86.00 ± 1.41", "2 of 2", "98.36 ± 0.10", "89.00 ± 0.00", "0.500", "2.0", "0.00", "0.00",
        "60",
    ]  # fmt: skip
    # The damaged seed is in no mean; the failed algorithm has its row and its published figure.
    assert found["FedAvg"][:4] == ["55.00", "1 of 2", "77.17 ± 0.24", "n/a"]
    assert found["IFCA"][:4] == ["n/a", "0 of 2", "96.61 ± 0.14", "n/a"]
    assert found[r"FedDAG\*"][:3] == ["82.50", "1 of 2", "-"]


def test_an_algorithm_that_cut_too_far_has_its_best_round_beside(tmp_path, undrawn):
    write_suite(tmp_path, ["CFL", "FedDAG"], {"s": None}, [1])
    shares, groups = dict.fromkeys("ab", 0.8), dict.fromkeys("ab", 0)
    write_trial(tmp_path, "FedDAG", "s", 1, shares, summary={"adjusted-rand-index": 1.0})
    write_trial(tmp_path, "CFL", "s", 1, shares, groups=groups, extra={"moved": {"b": 1}},
               summary={"adjusted-rand-index": 0.0})  # fmt: skip
    header, *rows = rows_after(write_report(tmp_path).read_text(), "### s")
    at = header.index("ARI")
    assert header[at : at + 4] == ["ARI", "clusters", "best ARI", "clusters then"]
    assert {row[0]: row[at : at + 4] for row in rows} == {
        "CFL": ["0.000", "2.0", "1.000", "1.0"],
        "**FedDAG**": ["1.000", "2.0", "n/a", "n/a"],
    }
    rows = read_csv(tmp_path / "report" / "results.csv")
    (trial,) = [row for row in rows if row["algorithm"] == "CFL"]
    assert (trial["best-rand-index"], trial["best-clusters"], trial["best-round"]) == (
        "1.0",
        "1",
        "0",
    )


def test_unseen_clients_are_the_main_figure_and_seen_ones_beside(report):
    header, *rows = rows_after(report, r"### a \| b")
    assert header[:5] == ["algorithm", "unseen", "seeds", "after fine-tuning", "seen"]
    assert rows[-1][:5] == ["**FedDAG**", "70.00", "1 of 2", "74.00", "85.00"]
    assert rows[0][:5] == ["FedAvg", "n/a", "0 of 2", "n/a", "50.00"]
    assert "**kept out of training**" in report


def test_what_was_not_counted_is_listed_with_its_reason(report):
    assert "2 scenarios x 4 algorithms x 2 seeds (1, 2) = 16 trials: 6 finished, 1 failed" in report
    _, *rows = rows_after(report, "Not in any figure below")
    assert len(rows) == 5
    assert [SCENARIO, "IFCA", "1", "failed", "out of memory / disk"] in rows
    missing = ["2", "missing", "not run to an end"]
    assert [SCENARIO, r"IFCA, FedDAG\*", *missing] in rows
    assert ["a / b", "FedAvg, FedDAG", *missing] in rows
    assert ["a / b", r"IFCA, FedDAG\*", "1, 2", *missing[1:]] in rows
    reason = "metrics.jsonl: the last round is 1, not 2"
    assert [SCENARIO, "FedAvg", "2", "damaged", reason] in rows
    # Eight trials have a record, of 60 s and 90 s of CPU time each.
    assert "8 min 00 s, 12 min 00 s of CPU time" in report
    assert "- Versions: 0.1.0 (commit abc), in-process\n" in report
    assert "- From 2026-11-21T10:00:00+00:00 to 2026-11-22T10:01:00+00:00\n" in report
    assert "learning-rate=0.01" in report


def test_differences_and_their_marks(report):
    header, *rows = rows_after(report, "### Differences: I 30")
    assert header[:2] == ["baseline", "points"]
    found = {row[0]: row for row in rows}
    # Seed 1 only: 40 and 20 points; both positive, so the interval leaves out 0.
    assert found["FedAvg"] == [
        "FedAvg", "+30.00", "`*`", "[+20.00, +40.00]", "n/a", "1", "2",
        "over clients only: win",
    ]  # fmt: skip
    assert found[r"FedDAG\*"][1:3] == ["+2.50", ""]
    assert "IFCA" not in found
    assert "One seed: the bootstrap interval is over clients only." in report
    _, *wins = rows_after(report, "## FedDAG minus each baseline")
    assert wins == [
        ["FedAvg", "0", "1", "0", "0", "0", "1"],
        ["IFCA", "0", "0", "0", "0", "0", "2"],
        [r"FedDAG\*", "0", "0", "1", "0", "0", "1"],
    ]
    assert r"- seed 2: no figures of FedAvg, IFCA, FedDAG\*" in report


def test_two_seeds_are_said_to_be_few(tmp_path, undrawn):
    write_suite(tmp_path, ["FedAvg", "FedDAG"], {"s": None}, [1, 2])
    for seed in (1, 2):
        write_trial(tmp_path, "FedDAG", "s", seed, {"a": 0.9, "b": 0.8 + seed / 100})
        write_trial(tmp_path, "FedAvg", "s", seed, {"a": 0.5, "b": 0.5})
    report = write_report(tmp_path).read_text()
    assert "2 seeds: the part between seeds is weakly estimated." in report
    _, row = rows_after(report, "### Differences: s")
    # Seed means 35.5 and 36: 35.75 +- 12.7062 / 4.
    assert row[1:5] == ["+35.75", "`**`", row[3], "[+32.57, +38.93]"]


def test_fine_tuning_is_told_apart(report):
    heading = "### Fine-tuning: I 30 %, alpha' 1, clients that took part in training"
    assert rows_after(report, heading)[1:] == [
        ["**FedDAG**", "86.00 ± 1.41", "89.00 ± 0.00", "3.00 ± 1.41", "2 of 2"]
    ]
    unseen = r"### Fine-tuning: a \| b, clients kept out of training"
    assert rows_after(report, unseen)[1:] == [["**FedDAG**", "70.00", "74.00", "4.00", "1 of 2"]]


def test_csv_files_recount_to_what_the_report_says(folder, report):
    assert "86.00 ± 1.41" in report
    results = read_csv(folder / "report" / "results.csv")
    clients = read_csv(folder / "report" / "clients.csv")
    assert len(results) == 16
    for row in results:
        own = [
            float(client["balanced-accuracy"])
            for client in clients
            if client["part"] == "seen"
            and all(client[key] == row[key] for key in ("scenario", "algorithm", "seed"))
        ]
        assert bool(own) == (row["status"] == "finished")
        if own:
            assert float(row["balanced-accuracy"]) == pytest.approx(np.mean(own))
            assert (row["clients"], row["bytes-per-client"]) == (str(len(own)), "900.0")
        else:
            assert row["reason"]
            assert row["balanced-accuracy"] == ""
    unseen = [row for row in results if row["unseen-balanced-accuracy"]]
    assert [float(row["unseen-tuned-balanced-accuracy"]) for row in unseen] == [0.74]
    assert sum(row["part"] == "unseen" for row in clients) == 1
    ours = [row for row in results if row["algorithm"] == "FedDAG" and row["scenario"] == SCENARIO]
    shares = [float(row["balanced-accuracy"]) for row in ours]
    assert (np.mean(shares), np.std(shares, ddof=1)) == pytest.approx((0.86, 0.01414), abs=1e-5)
    differences = read_csv(folder / "report" / "differences.csv")
    assert len(differences) == 6
    first = differences[0]
    assert (first["baseline"], first["seeds"]) == ("FedAvg", "1")
    assert first["outcome"] == "over clients only: win"
    assert float(first["points"]) == pytest.approx(30.0)
    assert first["t-low"] == ""


def test_figures_are_drawn_and_linked_and_old_ones_go(folder, report):
    drawn = sorted(path.name for path in (folder / "report").glob("*.png"))
    assert drawn == ["curves-01-i-30-alpha-1.png", "curves-02-a-b.png", "published.png",
                     "rand-index.png"]  # fmt: skip
    for name in drawn:
        assert f"]({name})" in report
        assert (folder / "report" / name).read_bytes().startswith(b"\x89PNG")


def test_a_report_on_nothing_finished(tmp_path):
    write_suite(tmp_path, ["FedDAG", "FedAvg"], {"s": "table_99/nowhere"}, [1])
    path = write_report(tmp_path, tmp_path / "elsewhere" / "deep")
    report = path.read_text()
    assert path == tmp_path / "elsewhere" / "deep" / "report.md"
    assert "2 trials: 2 missing" in report
    assert r"no published figures at 'table\_99/nowhere': 'table\_99' is not there." in report
    assert not list(path.parent.glob("*.png"))
    assert "## Figures" not in report


def test_one_algorithm_has_no_baselines(tmp_path):
    write_suite(tmp_path, ["FedAvg"], {"s": None}, [1])
    write_trial(tmp_path, "FedAvg", "s", 1, {"a": 0.5}, summary={"adjusted-rand-index": None})
    report = write_report(tmp_path).read_text()
    assert "minus each baseline" not in report
    assert not (tmp_path / "report" / "rand-index.png").exists()


def test_the_same_results_give_the_same_files(folder, report):
    write_report(folder, folder / "again")
    for path in (folder / "report").iterdir():
        assert path.read_bytes() == (folder / "again" / path.name).read_bytes(), path.name


def test_a_mean_curve_by_hand():
    curves = [
        pd.DataFrame({"accuracy": [0.2, 0.6], "bytes": [1e6, 2e6]}, index=[5, 10]),
        pd.DataFrame({"accuracy": [0.4, 0.9, 0.8], "bytes": [3e6, 3e6, 4e6]}, index=[5, 8, 10]),
    ]
    found = mean_curve(curves)
    assert found.index.tolist() == [5, 10]
    assert found["mean"].tolist() == pytest.approx([30, 70])
    assert found["low"].tolist() == pytest.approx([20, 60])
    assert found["high"].tolist() == pytest.approx([40, 80])
    assert found["megabytes"].tolist() == pytest.approx([2, 3])


def test_seventeen_algorithms_look_different(tmp_path):
    names = [f"baseline-{i}" for i in range(16)] + ["FedDAG"]
    write_suite(tmp_path, names, {"s": None}, [1])
    styles = styles_of(read_results(tmp_path))
    assert len({(style.colour, style.dashes) for style in styles.values()}) == 17
    assert [name for name, style in styles.items() if style.is_reference] == ["FedDAG"]


def test_labels_by_hand():
    # Two at 5 with a gap of 2 go to 4 and 6; at the edge both stay inside.
    assert spread([5.0, 5.0], 2.0, 0.0, 10.0) == pytest.approx([4.0, 6.0])
    assert spread([10.0, 9.5], 2.0, 0.0, 10.0) == pytest.approx([10.0, 8.0])
    assert spread([3.0, 1.0], 1.0, 0.0, 10.0) == pytest.approx([3.0, 1.0])


@given(st.lists(st.floats(0, 100), min_size=1, max_size=20), st.floats(0.1, 20))
def test_labels_keep_their_order_their_gap_and_their_room(values, gap):
    placed = spread(values, gap, 0.0, 100.0)
    kept = min(gap, 100.0 / max(1, len(values) - 1))
    assert placed.min() >= -1e-6
    assert placed.max() <= 100 + 1e-6
    assert np.all(np.diff(np.sort(placed)) >= kept - 1e-6)
    for i, j in zip(*np.triu_indices(len(values), 1), strict=True):
        if values[i] < values[j]:
            assert placed[i] < placed[j]


def test_values_as_a_reader_wants_them():
    assert plain("FedDAG* | a_b\n`c`") == r"FedDAG\* \| a\_b \`c\`"
    assert len(plain("x" * 1000)) == 300
    assert (mean_pm([]), mean_pm([1.0]), mean_pm([1.0, 3.0])) == ("n/a", "1.00", "2.00 ± 1.41")
    assert (mean_of([None, None], 1), mean_of([None, 1500.0], 1)) == ("n/a", "1,500.0")
    assert (interval(None), interval(Interval(-1.0, 2.5))) == ("n/a", "[-1.00, +2.50]")
    assert (duration(59.6), duration(3661)) == ("1 min 00 s", "1 h 01 min 01 s")


def test_settings_tables_hold_no_path_and_no_broken_trial(tmp_path, undrawn):
    write_suite(tmp_path, ["FedDAG"], {"s": None}, [1], settings={"corruptions": "a|b", "top-k": 2},
                **{"command-line": {"data-dir": "/home/someone"}})  # fmt: skip
    report = write_report(tmp_path).read_text()
    assert "/home/someone" not in report
    assert "command line" not in report
    assert r'| every trial | corruptions="a\|b", `top-k=2` |' in report


def test_what_stands_beside_the_paper_says_in_what_it_differs(report):
    assert "num-clients 2 (paper: 100), num-rounds 2 (paper: 200)" in report
    paper = {"num-clients": 100, "num-rounds": 200, "participation": 0.2, "local-epochs": 10,
             "batch-size": 64, "train-share": 1}  # fmt: skip
    assert differing_settings([paper]) == ""
    found = differing_settings([paper, {**paper, "train-share": 0.2}])
    assert found == "train-share 0.2 or 1 (paper: 1)"


def test_a_dollar_is_no_formula_and_a_failing_figure_costs_no_tables(tmp_path, monkeypatch):
    name = r"a $\frac{ b$" + 200 * "x"
    write_suite(tmp_path, ["FedDAG", "$x_{$"], {name: "table_2/fmnist"}, [1])
    for algorithm in ("FedDAG", "$x_{$"):
        write_trial(tmp_path, algorithm, name, 1, {"a": 0.5, "b": 0.6})
    report = write_report(tmp_path).read_text()
    assert "failed" not in report
    assert report.count("](") == 3

    def broken(path, results):
        raise ValueError("no | ink")

    monkeypatch.setattr(tables, "plot_rand_index", broken)
    monkeypatch.setattr(plots, "save", lambda figure, path: None)
    report = write_report(tmp_path).read_text()
    assert r"Figure rand-index.png failed: ValueError: no \| ink" in report
    assert report.count("](") == 2


def test_one_seed_has_no_band_and_no_bar(tmp_path, monkeypatch):
    texts = []
    monkeypatch.setattr(plots, "save", lambda figure, path: texts.append(words_of(figure)))
    for seeds in ([1], [1, 2]):
        folder = tmp_path / str(len(seeds))
        write_suite(folder, ["FedDAG"], {"s": "table_2/fmnist"}, seeds)
        for seed in seeds:
            write_trial(folder, "FedDAG", "s", seed, {"a": 0.5, "b": 0.6})
        write_report(folder)
    (curves, _, published), (more_curves, _, more_published) = texts[:3], texts[3:]
    assert "s\n1 seed" in curves
    assert "s\nmean over seeds, band from worst to best seed" in more_curves
    assert {"this experiment, 1 seed", "FedDAG in this experiment"} <= published
    assert "this experiment, ± std over seeds" in more_published
    assert any(text.startswith("Not the paper's settings: num-clients 2") for text in published)


def words_of(figure):
    return {text.get_text() for text in figure.findobj(Text)}


def test_a_scenario_without_a_finished_trial_is_one_line(tmp_path, undrawn):
    write_suite(tmp_path, ["FedAvg", "FedDAG"], {"s": None, "later": None}, [1, 2])
    for name in ("FedAvg", "FedDAG"):
        write_trial(tmp_path, name, "s", 1, {"a": 0.5, "b": 0.6})
    report = write_report(tmp_path).read_text()
    assert "Without a finished trial: later." in report
    assert report.count("later") == 3  # the trials not run, the scenario's settings, and that line
    assert "| later | all | 1, 2 | missing |" in report

import json

import pytest
from fabricated_results import evaluation, lines_of, write_cell, write_suite
from memory_grid import run_quickly

from feddag_lab.experiments.layout import DamagedError
from feddag_lab.experiments.results import (
    BROKEN_OFF,
    BestRound,
    mean_accuracy,
    mean_balanced_accuracy,
    read_results,
    read_run,
)

SHARES = {"a": 0.9, "b": 0.7}


@pytest.fixture
def folder(tmp_path):
    write_suite(tmp_path, ["FedDAG", "FedAvg"], {"s": None}, [1, 2])
    return tmp_path


def cell_of(folder, algorithm="FedDAG", seed=1):
    return read_results(folder).cells["s", algorithm, seed]


def test_a_run_by_hand(folder):
    write_cell(
        folder, "FedDAG", "s", 1, SHARES, groups={"a": 0, "b": 1},
        extra={"tuned": evaluation({"a": 0.95, "b": 0.75}), "moved": {"b": 1}},
    )  # fmt: skip
    run = cell_of(folder).run
    assert mean_balanced_accuracy(run.seen) == pytest.approx(0.8)
    assert mean_accuracy(run.seen) == pytest.approx(0.79)
    assert mean_balanced_accuracy(run.tuned) == pytest.approx(0.85)
    assert (run.unseen, run.judged) == (None, run.seen)
    # Two clients: profile 1,000 and two rounds of 300 for training, 100 for evaluation.
    assert (run.total_bytes, run.training_bytes) == (900.0, 800.0)
    assert (run.rand_index, run.num_clusters, run.clients) == (0.5, 2, 2)
    assert run.best == BestRound(round=2, rand_index=1.0, num_clusters=2)
    assert run.clusters == {"a": 0, "b": 1}
    assert run.true_groups == {"a": 0, "b": 1}
    assert run.curve.rounds == (1, 2)
    assert run.curve.accuracy == pytest.approx((0.4, 0.8))
    assert run.curve.training_bytes == (650.0, 800.0)


def test_a_folder_that_a_real_run_left(tmp_path):
    """The layout is the run folder's own, not one of these tests' making."""
    strategy, _ = run_quickly(
        tmp_path, algorithm="fedavg", num_rounds=3, evaluate_every=2, fine_tune_epochs=1,
        unseen_share=0.34,
    )  # fmt: skip
    run = read_run(tmp_path / "run", strategy.settings.seed)
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert mean_balanced_accuracy(run.seen) == summary["overall"]["balanced-accuracy"]
    assert mean_accuracy(run.seen) == summary["overall"]["accuracy"]
    assert mean_balanced_accuracy(run.unseen) == summary["unseen"]["balanced-accuracy"]
    assert set(run.tuned) == set(run.seen) == set(strategy.state.clients)
    assert set(run.unseen_tuned) == set(run.unseen) == set(strategy.unseen)
    assert round(run.total_bytes) == summary["bytes-per-client"]
    assert 0 < run.training_bytes < run.total_bytes
    assert run.curve.rounds == (2, 3)
    assert run.clusters == strategy.state.assignments
    assert run.true_groups == strategy.true_groups


def test_the_last_round_counts_and_not_the_best(folder):
    lines = lines_of(SHARES)
    lines[1]["all"] = evaluation({"a": 1.0, "b": 1.0})
    write_cell(folder, "FedDAG", "s", 1, SHARES, lines=lines)
    assert mean_balanced_accuracy(cell_of(folder).run.seen) == pytest.approx(0.8)


def test_unseen_clients_are_what_a_run_is_judged_by(folder):
    extra = {"unseen": evaluation({"c": 0.6}), "unseen-tuned": evaluation({"c": 0.65})}
    keeps_some = {"unseen-share": 0.34}
    write_cell(folder, "FedAvg", "s", 1, SHARES, settings=keeps_some)
    # As long as only an algorithm without a model for newcomers has run, too.
    assert cell_of(folder, "FedAvg").run.judged is None
    write_cell(folder, "FedDAG", "s", 1, SHARES, extra=extra, settings=keeps_some)
    results = read_results(folder)
    run = results.cells["s", "FedDAG", 1].run
    assert mean_balanced_accuracy(run.judged) == pytest.approx(0.6)
    assert mean_balanced_accuracy(run.judged_tuned) == pytest.approx(0.65)
    assert results.judges_unseen("s")
    # An algorithm that has no model for newcomers keeps its other figures.
    other = results.cells["s", "FedAvg", 1].run
    assert (other.judged, other.judged_tuned) == (None, None)
    assert mean_balanced_accuracy(other.seen) == pytest.approx(0.8)


def test_without_a_list_of_members_bytes_are_shared_over_num_clients(folder):
    write_cell(folder, "FedDAG", "s", 1, SHARES, summary={"clusters": []})
    assert cell_of(folder).run.clients == 2


def test_failed_missing_and_unfinished_cells(folder):
    write_cell(folder, "FedDAG", "s", 1, status="failed", reason="RuntimeError: no luck")
    write_cell(folder, "FedAvg", "s", 1, status="failed")
    write_cell(folder, "FedDAG", "s", 2, status="running")
    assert (cell_of(folder).status, cell_of(folder).reason) == ("failed", "RuntimeError: no luck")
    assert cell_of(folder, "FedAvg").reason == "no reason given"
    running = cell_of(folder, seed=2)
    assert (running.status, running.reason) == ("missing", "status 'running'")
    absent = cell_of(folder, "FedAvg", 2)
    assert (absent.status, absent.reason) == ("missing", "not run to an end")
    assert not list(read_results(folder).all_runs())


def test_an_algorithm_that_a_scenario_is_without_is_not_awaited(tmp_path):
    write_suite(tmp_path, ["FedDAG", "FedAvg"], {"s": None}, [1])
    suite = json.loads((tmp_path / "suite.json").read_text())
    suite["scenarios"]["s"]["without"] = ["FedAvg"]
    (tmp_path / "suite.json").write_text(json.dumps(suite))
    assert cell_of(tmp_path, "FedAvg").reason == "the suite leaves it out"
    assert cell_of(tmp_path, "FedDAG").reason == "not run to an end"


def without_last_round(lines):
    return lines[:-1]


def without_last_evaluation(lines):
    del lines[-1]["all"]
    return lines


def round_twice(lines):
    return [*lines[:2], lines[1], lines[2]]


def nobody_evaluated(lines):
    lines[-1]["all"] = evaluation({})
    return lines


def other_mean(lines):
    lines[-1]["all"]["overall"]["balanced-accuracy"] = 0.99
    return lines


def impossible_share(lines):
    lines[-1]["all"]["by-client"]["a"]["balanced-accuracy"] = 1.5
    return lines


def not_a_number(lines):
    lines[-1]["all"]["by-client"]["a"]["balanced-accuracy"] = float("nan")
    return lines


def bytes_as_text(lines):
    lines[0]["bytes"]["up"]["profile"] = "600"
    return lines


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (without_last_round, "the last round is 1, not 2"),
        (without_last_evaluation, "round 2 has no evaluation of all clients"),
        (round_twice, "rounds are not 0, 1, .. 2, each once"),
        (nobody_evaluated, "round 2 has no evaluation of all clients"),
        (other_mean, "balanced accuracy is 0.99 overall, but its clients' mean is 0.8"),
        (impossible_share, "metrics.jsonl, line 3: all/by-client/a/balanced-accuracy"),
        (not_a_number, "metrics.jsonl, line 3"),
        (bytes_as_text, "metrics.jsonl, line 1: bytes/up/profile"),
    ],
)
def test_damaged_metrics(folder, spoil, reason):
    write_cell(folder, "FedDAG", "s", 1, SHARES, lines=spoil(lines_of(SHARES)))
    cell = cell_of(folder)
    assert (cell.status, cell.run) == ("damaged", None)
    assert reason in cell.reason


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        ({"summary": {"bytes-per-client": 950}}, "900 bytes a client, summary.json says 950"),
        ({"summary": {"adjusted-rand-index": 3}}, "summary.json: adjusted-rand-index"),
        ({"settings": {"seed": 7}}, "settings.json: seed is 7, not 1"),
        ({"settings": {"label-skew": 20.0}}, "label-skew is 20.0, the suite says 30.0"),
        ({"settings": {"num-rounds": 3}}, "the last round is 2, not 3"),
        ({"settings": {"num-rounds": "2"}}, "settings.json: num-rounds"),
    ],
)
def test_damaged_settings_and_summaries(folder, more, reason):
    write_cell(folder, "FedDAG", "s", 1, SHARES, **more)
    cell = cell_of(folder)
    assert (cell.status, cell.run) == ("damaged", None)
    assert reason in cell.reason


def test_a_setting_that_was_not_there_yet_had_its_default(tmp_path):
    write_suite(tmp_path, ["FedDAG"], {"s": None}, [1], settings={"momentum": 0.5})
    write_cell(tmp_path, "FedDAG", "s", 1, SHARES)
    assert cell_of(tmp_path).status == "finished"
    write_suite(tmp_path, ["FedDAG"], {"s": None}, [1], settings={"momentum": 0.9})
    assert cell_of(tmp_path).reason == "settings.json: momentum is 0.5, the suite says 0.9"


def test_the_command_line_wins_over_the_suite_and_machines_may_differ(tmp_path):
    write_suite(
        tmp_path, ["FedDAG"], {"s": None}, [1],
        settings={"num-rounds": 200, "device": "cuda"}, **{"command-line": {"num-rounds": 2}},
    )  # fmt: skip
    write_cell(tmp_path, "FedDAG", "s", 1, SHARES, settings={"device": "cpu"})
    assert cell_of(tmp_path).status == "finished"


@pytest.mark.parametrize("name", ["metrics.jsonl", "settings.json", "summary.json"])
def test_missing_and_truncated_files(folder, name):
    path = write_cell(folder, "FedDAG", "s", 1, SHARES) / name
    path.write_bytes(path.read_bytes()[:-20])
    assert name in cell_of(folder).reason
    path.unlink()
    assert cell_of(folder).reason == f"{name} is missing"
    path.write_bytes(b"\xff\xfe")
    assert name in cell_of(folder).reason
    with pytest.raises(DamagedError, match=name):
        read_run(path.parent, 1)


def test_folders_that_are_no_cells_are_named(folder):
    write_cell(folder, "FedDAG", "s", 1, SHARES)
    write_cell(folder, "FedDAG", "s", 3, SHARES)
    write_cell(folder, "FedBR", "s", 1, SHARES)
    (folder / "cells" / "empty").mkdir()
    (folder / "cells" / "torn").mkdir()
    (folder / "cells" / "torn" / "cell.json").touch()
    twin = folder / "cells" / "z-twin"
    twin.mkdir()
    record = {"algorithm": "FedDAG", "scenario": "s", "seed": 1, "status": "failed"}
    (twin / "cell.json").write_text(json.dumps(record))
    results = read_results(folder)
    assert len(results.cells) == 4
    assert dict(results.strays) == {
        "empty": BROKEN_OFF,
        "torn": "cell.json: Invalid JSON: EOF while parsing a value at line 1 column 0",
        "s--FedBR--1": "not a cell of the suite",
        "s--FedDAG--3": "not a cell of the suite",
        "z-twin": "a second folder of a cell; the first by name counts",
    }
    assert results.cells["s", "FedDAG", 1].status == "finished"


def test_without_a_suite_there_are_no_results(tmp_path):
    with pytest.raises(DamagedError, match=r"suite\.json is missing"):
        read_results(tmp_path)
    (tmp_path / "suite.json").write_text('{"name": "x", "algorithms": {}}')
    with pytest.raises(DamagedError, match=r"suite\.json: algorithms"):
        read_results(tmp_path)


def test_seeds_with_other_settings_are_not_averaged(tmp_path):
    write_suite(tmp_path, ["FedDAG", "FedAvg"], {"s": None}, [1, 2, 3])
    for seed in (1, 2, 3):
        write_cell(tmp_path, "FedDAG", "s", seed, SHARES, settings={"momentum": seed // 3 * 0.9})
    odd = cell_of(tmp_path, seed=3)
    assert (odd.status, odd.run) == ("damaged", None)
    assert odd.reason == (
        "settings.json: momentum is 0.9, in the cells that it is held against 0.0"
    )
    assert set(read_results(tmp_path).runs("s", "FedDAG")) == {1, 2}


def test_of_two_seeds_the_one_with_the_default_is_right_and_an_absent_setting_has_it(folder):
    write_cell(folder, "FedDAG", "s", 1, SHARES, settings={"learning-rate": 0.5})
    write_cell(folder, "FedDAG", "s", 2, SHARES, settings={"momentum": 0.5, "device": "cuda"})
    assert "learning-rate is 0.5" in cell_of(folder).reason
    assert cell_of(folder, seed=2).status == "finished"


def test_algorithms_of_a_scenario_may_differ_in_all_but_their_data(folder):
    for seed in (1, 2):
        write_cell(folder, "FedDAG", "s", seed, SHARES, settings={"fedgwc-epsilon": 0.1})
    write_cell(folder, "FedAvg", "s", 1, SHARES, settings={"fedgwc-epsilon": 1e-5})
    assert cell_of(folder, "FedAvg").status == "finished"
    write_cell(folder, "FedAvg", "s", 2, SHARES, settings={"fedgwc-epsilon": 1e-5, "concepts": 2})
    assert "concepts is 2" in cell_of(folder, "FedAvg", 2).reason
    # Where the suite itself says so, it is no mistake.
    suite = json.loads((folder / "suite.json").read_text())
    suite |= {"seeds": [2], "algorithms": {"FedDAG": {}, "FedAvg": {"concepts": 2}}}
    (folder / "suite.json").write_text(json.dumps(suite))
    assert cell_of(folder, "FedAvg", 2).status == "finished"


def test_the_best_round_is_the_first_with_the_clusters_nearest_the_groups(folder):
    shares = dict.fromkeys("abcd", 0.8)
    groups = {"a": 0, "b": 0, "c": 1, "d": 1}
    lines = lines_of(shares, rounds=4)
    lines[2]["moved"] = {"c": 1, "d": 1}
    lines[3]["moved"] = {"d": 2}
    lines[4]["moved"] = {"d": 1}
    path = write_cell(folder, "FedDAG", "s", 1, shares, rounds=4, lines=lines, groups=groups)
    assert read_run(path, 1).best == BestRound(round=2, rand_index=1.0, num_clusters=2)
    del lines[2]["moved"], lines[4]["moved"]
    (path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    # Only d is apart: one pair is together in both, 3 * 2 / 6 = 1 is expected, so the index is 0.
    assert read_run(path, 1).best == BestRound(round=0, rand_index=0.0, num_clusters=1)


def test_no_best_round_without_true_groups(folder):
    write_cell(folder, "FedDAG", "s", 1, SHARES)
    assert cell_of(folder).run.best is None


def test_clusters_without_members_are_not_counted(folder):
    members = [["a", "b"], [], []]
    clusters = [{"cluster": i, "members": each} for i, each in enumerate(members)]
    summary = {"num-clusters": 3, "clusters": clusters}
    write_cell(folder, "FedDAG", "s", 1, SHARES, summary=summary)
    assert cell_of(folder).run.num_clusters == 1

import json

import pytest
from fabricated_results import evaluation, lines_of, write_suite, write_trial
from memory_grid import run_quickly

from feddag_lab.experiments.finished import read_trial
from feddag_lab.experiments.layout import DamagedResultsError
from feddag_lab.experiments.results import BROKEN_OFF, read_results

SHARES = {"a": 0.9, "b": 0.7}


@pytest.fixture
def folder(tmp_path):
    write_suite(tmp_path, ["FedDAG", "FedAvg"], {"s": None}, [1, 2])
    return tmp_path


def trial_of(folder, algorithm="FedDAG", seed=1):
    return read_results(folder).trials["s", algorithm, seed]


def test_a_run_by_hand(folder):
    write_trial(
        folder, "FedDAG", "s", 1, SHARES, groups={"a": 0, "b": 1},
        extra={"tuned": evaluation({"a": 0.95, "b": 0.75}), "moved": {"b": 1}},
    )  # fmt: skip
    left = trial_of(folder).files
    # Two clients: profile 1,000 and two rounds of 300 for training, 100 for evaluation.
    assert left.figures == pytest.approx(
        {
            "clients": 2, "balanced-accuracy": 0.8, "accuracy": 0.79,
            "tuned-balanced-accuracy": 0.85, "tuned-accuracy": 0.84,
            "unseen-clients": None, "unseen-balanced-accuracy": None, "unseen-accuracy": None,
            "unseen-tuned-balanced-accuracy": None, "unseen-tuned-accuracy": None,
            "adjusted-rand-index": 0.5, "clusters": 2,
            "bytes-per-client": 900.0, "training-bytes-per-client": 800.0,
            "best-rand-index": 1.0, "best-clusters": 2, "best-round": 2,
        }
    )  # fmt: skip
    assert left.clients.to_dict("records")[1] == {
        "client": "b", "part": "seen", "samples": 100, "balanced-accuracy": 0.7,
        "accuracy": 0.7 - 0.01, "tuned-balanced-accuracy": 0.75, "tuned-accuracy": 0.75 - 0.01,
        "cluster": 1, "true-group": 1,
    }  # fmt: skip
    assert left.judged.index.tolist() == ["a", "b"]
    assert left.curve.index.tolist() == [1, 2]
    assert left.curve["accuracy"].tolist() == pytest.approx([0.4, 0.8])
    assert left.curve["bytes"].tolist() == [650.0, 800.0]


def test_an_older_experiment_is_read_under_its_old_names(folder):
    path = write_trial(folder, "FedDAG", "s", 1, SHARES)
    (path / "trial.json").rename(path / "cell.json")
    (folder / "trials").rename(folder / "cells")
    assert trial_of(folder).status == "finished"


def test_a_folder_that_a_real_run_left(tmp_path):
    """The layout is the run folder's own, not one of these tests' making."""
    strategy, _ = run_quickly(
        tmp_path, algorithm="fedavg", num_rounds=3, evaluate_every=2, personalisation_epochs=1,
        held_out_share=0.34,
    )  # fmt: skip
    left = read_trial(tmp_path / "run", strategy.settings.run.seed)
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert left.figures["balanced-accuracy"] == summary["overall"]["balanced-accuracy"]
    assert left.figures["accuracy"] == summary["overall"]["accuracy"]
    assert left.figures["unseen-balanced-accuracy"] == summary["held-out"]["balanced-accuracy"]
    assert round(left.figures["bytes-per-client"]) == summary["bytes-per-client"]
    assert 0 < left.figures["training-bytes-per-client"] < left.figures["bytes-per-client"]
    assert left.curve.index.tolist() == [2, 3]
    assert left.true_groups == strategy.context.true_groups
    clients = left.clients.set_index("client")
    assert not clients["tuned-balanced-accuracy"].isna().any()
    parts = {part: set(each.index) for part, each in clients.groupby("part")}
    assert parts == {"seen": set(strategy.state.clients), "unseen": set(strategy.context.held_out)}
    assert clients["cluster"].dropna().to_dict() == strategy.state.assignments


def test_the_last_round_counts_and_not_the_best(folder):
    lines = lines_of(SHARES)
    lines[1]["all"] = evaluation({"a": 1.0, "b": 1.0})
    write_trial(folder, "FedDAG", "s", 1, SHARES, lines=lines)
    assert trial_of(folder).files.figures["balanced-accuracy"] == pytest.approx(0.8)


def test_unseen_clients_are_what_a_run_is_judged_by(folder):
    extra = {"unseen": evaluation({"c": 0.6}), "unseen-tuned": evaluation({"c": 0.65})}
    keeps_some = {"held-out-share": 0.34}
    write_trial(folder, "FedAvg", "s", 1, SHARES, settings=keeps_some)
    # As long as only an algorithm without a model for newcomers has run, too.
    assert trial_of(folder, "FedAvg").files.judged.empty
    write_trial(folder, "FedDAG", "s", 1, SHARES, extra=extra, settings=keeps_some)
    results = read_results(folder)
    (row,) = results.rows("s", "FedDAG").to_dict("records")
    assert (row["main"], row["main-tuned"]) == pytest.approx((0.6, 0.65))
    assert results.trials["s", "FedDAG", 1].files.judged.index.tolist() == ["c"]
    assert results.judges_unseen("s")
    # An algorithm that has no model for newcomers keeps its other figures.
    other = results.rows("s", "FedAvg").iloc[0]
    assert other[["main", "main-tuned"]].isna().all()
    assert other["balanced-accuracy"] == pytest.approx(0.8)


def test_without_a_list_of_members_bytes_are_shared_over_num_clients(folder):
    write_trial(folder, "FedDAG", "s", 1, SHARES, summary={"clusters": []})
    assert trial_of(folder).files.figures["bytes-per-client"] == 900.0


def test_failed_missing_and_unfinished_trials(folder):
    write_trial(folder, "FedDAG", "s", 1, status="failed", reason="RuntimeError: no luck")
    write_trial(folder, "FedAvg", "s", 1, status="failed")
    write_trial(folder, "FedDAG", "s", 2, status="running")
    assert (trial_of(folder).status, trial_of(folder).reason) == ("failed", "RuntimeError: no luck")
    assert trial_of(folder, "FedAvg").reason == "no reason given"
    running = trial_of(folder, seed=2)
    assert (running.status, running.reason) == ("missing", "status 'running'")
    absent = trial_of(folder, "FedAvg", 2)
    assert (absent.status, absent.reason) == ("missing", "not run to an end")
    assert not list(read_results(folder).all_finished())


def test_an_algorithm_that_a_scenario_is_without_is_not_awaited(tmp_path):
    write_suite(tmp_path, ["FedDAG", "FedAvg"], {"s": None}, [1])
    suite = json.loads((tmp_path / "suite.json").read_text())
    suite["scenarios"]["s"]["without"] = ["FedAvg"]
    (tmp_path / "suite.json").write_text(json.dumps(suite))
    assert trial_of(tmp_path, "FedAvg").reason == "the suite leaves it out"
    assert trial_of(tmp_path, "FedDAG").reason == "not run to an end"


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
    write_trial(folder, "FedDAG", "s", 1, SHARES, lines=spoil(lines_of(SHARES)))
    trial = trial_of(folder)
    assert (trial.status, trial.files) == ("damaged", None)
    assert reason in trial.reason


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
    write_trial(folder, "FedDAG", "s", 1, SHARES, **more)
    trial = trial_of(folder)
    assert (trial.status, trial.files) == ("damaged", None)
    assert reason in trial.reason


def test_a_setting_that_was_not_there_yet_had_its_default(tmp_path):
    write_suite(tmp_path, ["FedDAG"], {"s": None}, [1], settings={"momentum": 0.5})
    write_trial(tmp_path, "FedDAG", "s", 1, SHARES)
    assert trial_of(tmp_path).status == "finished"
    write_suite(tmp_path, ["FedDAG"], {"s": None}, [1], settings={"momentum": 0.9})
    assert trial_of(tmp_path).reason == "settings.json: momentum is 0.5, the suite says 0.9"


def test_the_command_line_wins_over_the_suite_and_machines_may_differ(tmp_path):
    write_suite(
        tmp_path, ["FedDAG"], {"s": None}, [1],
        settings={"num-rounds": 200, "device": "cuda"}, **{"command-line": {"num-rounds": 2}},
    )  # fmt: skip
    write_trial(tmp_path, "FedDAG", "s", 1, SHARES, settings={"device": "cpu"})
    assert trial_of(tmp_path).status == "finished"


@pytest.mark.parametrize("name", ["metrics.jsonl", "settings.json", "summary.json"])
def test_missing_and_truncated_files(folder, name):
    path = write_trial(folder, "FedDAG", "s", 1, SHARES) / name
    path.write_bytes(path.read_bytes()[:-20])
    assert name in trial_of(folder).reason
    path.unlink()
    assert trial_of(folder).reason == f"{name} is missing"
    path.write_bytes(b"\xff\xfe")
    assert name in trial_of(folder).reason
    with pytest.raises(DamagedResultsError, match=name):
        read_trial(path.parent, 1)


def test_folders_that_are_no_trials_are_named(folder):
    write_trial(folder, "FedDAG", "s", 1, SHARES)
    write_trial(folder, "FedDAG", "s", 3, SHARES)
    write_trial(folder, "FedBR", "s", 1, SHARES)
    (folder / "trials" / "empty").mkdir()
    (folder / "trials" / "torn").mkdir()
    (folder / "trials" / "torn" / "trial.json").touch()
    twin = folder / "trials" / "z-twin"
    twin.mkdir()
    record = {"algorithm": "FedDAG", "scenario": "s", "seed": 1, "status": "failed"}
    (twin / "trial.json").write_text(json.dumps(record))
    results = read_results(folder)
    assert len(results.trials) == 4
    assert dict(results.strays) == {
        "empty": BROKEN_OFF,
        "torn": "trial.json: Invalid JSON: EOF while parsing a value at line 1 column 0",
        "s--FedBR--1": "not a trial of the suite",
        "s--FedDAG--3": "not a trial of the suite",
        "z-twin": "a second folder of a trial; the first by name counts",
    }
    assert results.trials["s", "FedDAG", 1].status == "finished"


def test_without_a_suite_there_are_no_results(tmp_path):
    with pytest.raises(DamagedResultsError, match=r"suite\.json is missing"):
        read_results(tmp_path)
    (tmp_path / "suite.json").write_text('{"name": "x", "algorithms": {}}')
    with pytest.raises(DamagedResultsError, match=r"suite\.json: algorithms"):
        read_results(tmp_path)


def test_seeds_with_other_settings_are_not_averaged(tmp_path):
    write_suite(tmp_path, ["FedDAG", "FedAvg"], {"s": None}, [1, 2, 3])
    for seed in (1, 2, 3):
        write_trial(tmp_path, "FedDAG", "s", seed, SHARES, settings={"momentum": seed // 3 * 0.9})
    odd = trial_of(tmp_path, seed=3)
    assert (odd.status, odd.files) == ("damaged", None)
    assert odd.reason == (
        "settings.json: momentum is 0.9, in the trials that it is held against 0.0"
    )
    assert set(read_results(tmp_path).finished("s", "FedDAG")) == {1, 2}


def test_of_two_seeds_the_one_with_the_default_is_right_and_an_absent_setting_has_it(folder):
    write_trial(folder, "FedDAG", "s", 1, SHARES, settings={"learning-rate": 0.5})
    write_trial(folder, "FedDAG", "s", 2, SHARES, settings={"momentum": 0.5, "device": "cuda"})
    assert "learning-rate is 0.5" in trial_of(folder).reason
    assert trial_of(folder, seed=2).status == "finished"


def test_algorithms_of_a_scenario_may_differ_in_all_but_their_data(folder):
    for seed in (1, 2):
        write_trial(folder, "FedDAG", "s", seed, SHARES, settings={"fedgwc-epsilon": 0.1})
    write_trial(folder, "FedAvg", "s", 1, SHARES, settings={"fedgwc-epsilon": 1e-5})
    assert trial_of(folder, "FedAvg").status == "finished"
    write_trial(folder, "FedAvg", "s", 2, SHARES, settings={"fedgwc-epsilon": 1e-5, "concepts": 2})
    assert "concepts is 2" in trial_of(folder, "FedAvg", 2).reason
    # Where the suite itself says so, it is no mistake.
    suite = json.loads((folder / "suite.json").read_text())
    suite |= {"seeds": [2], "algorithms": {"FedDAG": {}, "FedAvg": {"concepts": 2}}}
    (folder / "suite.json").write_text(json.dumps(suite))
    assert trial_of(folder, "FedAvg", 2).status == "finished"


def best_of(path):
    figures = read_trial(path, 1).figures
    return {name: value for name, value in figures.items() if name.startswith("best-")}


def test_the_best_round_is_the_first_with_the_clusters_nearest_the_groups(folder):
    shares = dict.fromkeys("abcd", 0.8)
    groups = {"a": 0, "b": 0, "c": 1, "d": 1}
    lines = lines_of(shares, rounds=4)
    lines[2]["moved"] = {"c": 1, "d": 1}
    lines[3]["moved"] = {"d": 2}
    lines[4]["moved"] = {"d": 1}
    path = write_trial(folder, "FedDAG", "s", 1, shares, rounds=4, lines=lines, groups=groups)
    assert best_of(path) == {"best-rand-index": 1.0, "best-clusters": 2, "best-round": 2}
    del lines[2]["moved"], lines[4]["moved"]
    (path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    # Only d is apart: one pair is together in both, 3 * 2 / 6 = 1 is expected, so the index is 0.
    assert best_of(path) == {"best-rand-index": 0.0, "best-clusters": 1, "best-round": 0}


def test_no_best_round_without_true_groups(folder):
    path = write_trial(folder, "FedDAG", "s", 1, SHARES)
    assert set(best_of(path).values()) == {None}


def test_clusters_without_members_are_not_counted(folder):
    members = [["a", "b"], [], []]
    clusters = [{"cluster": i, "members": each} for i, each in enumerate(members)]
    summary = {"num-clusters": 3, "clusters": clusters}
    write_trial(folder, "FedDAG", "s", 1, SHARES, summary=summary)
    assert trial_of(folder).files.figures["clusters"] == 1

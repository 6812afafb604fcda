"""How the benchmarks of newcomers and drift read the lines of a run."""

import importlib
from pathlib import Path

import pytest

from feddag_flwr.data.datasets import load_dataset
from feddag_flwr.data.drift import drifted_parts
from feddag_flwr.data.plan import make_plan
from feddag_flwr.settings import Settings

settings_of = Settings.from_run_config
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def benchmark(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    return importlib.import_module


def test_the_course_of_a_drifting_client_is_read_from_the_lines(benchmark):
    drift, readings = benchmark("drift"), benchmark("run_readings")
    lines = [
        {"round": 0, "moved": {"a": 1, "b": 0}},
        {"round": 1, "sampled": ["a"]},  # before the change: no check
        {"round": 2, "sampled": ["b"]},
        {"round": 3, "sampled": [], "all": {"by-client": {"a": {}, "b": {}}}},
        {"round": 4, "sampled": ["a"], "drifted": ["a"]},
        {"round": 5, "sampled": ["b"], "drifted": ["a"]},
        {"round": 6, "sampled": ["a"], "placed": {"a": 2}, "moved": {"a": 2}},
    ]
    run = readings.Reading(
        settings_of({"drift-share": 0.5, "drift-round": 2}), lines, {"a": 2, "b": 0}
    )
    assert drift.follow(run, "a", 2) == drift.Course("a", 2, 3, 2, right=True)
    assert not drift.follow(run, "a", 1).right
    assert drift.follow(run, "b", 0) == drift.Course("b", None, None, None, right=False)
    cut = readings.Reading(run.settings, lines[:6], run.assignments)
    assert drift.follow(cut, "a", 2) == drift.Course("a", 2, 3, None, right=False)


def test_newcomers_are_compared_with_the_first_members_of_their_group(benchmark):
    newcomers, readings = benchmark("newcomers"), benchmark("run_readings")
    settings = settings_of({"newcomer-share": 0.25, "num-rounds": 5})
    groups, late = readings.true_groups(settings), readings.newcomers(settings)
    assert len(late) == 5
    assert sorted(set(groups.values())) == [0, 1, 2, 3, 4]
    assignments = {name: 4 - group for name, group in groups.items()}
    wrong, absent, moved = late[0], late[1], min(groups.keys() - set(late))
    assignments[wrong] = (assignments[wrong] + 1) % 5
    del assignments[absent]
    judged = {
        name: {"balanced-accuracy": 0.5 if name in late else 0.1 * groups[name]}
        for name in groups
        if name != absent
    }
    lines = [{"moved": dict.fromkeys(groups, 0)}, {"moved": {moved: 1, late[2]: 1}}]
    lines.append({"all": {"by-client": judged}})
    outcome = newcomers.judge(readings.Reading(settings, lines, assignments), 1.0)
    assert (outcome.late, outcome.placed, outcome.right) == (5, 4, 3)
    assert (outcome.members, outcome.moved, outcome.rand) == (15, 1, 1.0)
    member_groups = [group for name, group in groups.items() if name not in late]
    assert outcome.member_accuracy == pytest.approx(0.1 * sum(member_groups) / 15)
    assert outcome.peer_accuracy == pytest.approx(0.1 * sum(groups[name] for name in late) / 5)
    assert outcome.late_accuracy == pytest.approx(0.4)  # who has no model counts as 0


def test_drifting_clients_come_to_have_the_group_of_the_part_they_get(benchmark):
    readings = benchmark("run_readings")
    settings = settings_of({"drift-share": 0.3})
    plan = make_plan(load_dataset(settings), settings)
    expected = {
        f"client-{client:02d}": plan.true_group(part)
        for client, part in drifted_parts(plan, 0.3, 1).items()
    }
    assert readings.drifting(settings) == expected
    before = readings.true_groups(settings)
    assert all(before[name] != group for name, group in expected.items())

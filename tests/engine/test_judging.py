"""Members judge each other's updates (setting ``judges``), in whole runs."""

from __future__ import annotations

import json

import numpy as np
import pytest
from memory_grid import array_of, quick_settings, replace_array, run_quickly

from feddag_flwr.data.scenarios import load_client_data
from feddag_flwr.engine.runs import open_run
from feddag_flwr.settings import Settings, SettingsError
from feddag_flwr.simulation import InProcessGrid, load_client_app

TWO_GROUPS = {
    "num_clients": 8,
    "client_groups": 2,
    "participation": 0.25,
    "learning_rate": 0.05,
    "batch_size": 16,
    "num_rounds": 12,
    "evaluate_every": 12,
}


def lines_of(strategy):
    text = (strategy.folder.path / "metrics.jsonl").read_text()
    return [json.loads(line) for line in text.splitlines()]


def group_of(client):
    settings = quick_settings(**TWO_GROUPS)
    return load_client_data(settings, {"partition-id": client, "num-partitions": 8}).true_group


def turned(liar, factor=-1.0):
    """Let one partition send its weights turned round."""

    def tamper(partition, action, reply):
        if action == "train.dual" and partition == liar and reply.has_content():
            for key in ("primary.floats", "classifier.floats", "transfer.floats"):
                replace_array(reply, key, np.float32(factor) * array_of(reply, key))
        return reply

    return tamper


def mean_of_honest(strategy, liar):
    by_client = lines_of(strategy)[-1]["all"]["by-client"]
    names = [name for name in by_client if name != f"client-{liar}"]
    return float(np.mean([by_client[name]["balanced-accuracy"] for name in names]))


@pytest.mark.integration
def test_members_keep_a_lying_update_out_of_their_model(tmp_path, caplog):
    """Without judges the same lie ruins the group."""
    ruined, _ = run_quickly(tmp_path, name="mean", tamper=turned(0), **TWO_GROUPS)
    judged, grid = run_quickly(tmp_path, name="judged", tamper=turned(0), judges=3, **TWO_GROUPS)
    honest, _ = run_quickly(tmp_path, name="honest", judges=3, **TWO_GROUPS)
    assert mean_of_honest(judged, 0) > mean_of_honest(ruined, 0) + 0.1
    assert mean_of_honest(judged, 0) > mean_of_honest(honest, 0) - 0.05
    verdicts = [line["judged"]["client-0"] for line in lines_of(judged) if "judged" in line and
                "client-0" in line["judged"]]  # fmt: skip
    assert verdicts and all(2 * each["worse"] > each["of"] for each in verdicts)
    assert "client client-0 is left out: 3 of 3 members of its cluster that judged" in caplog.text
    left_out = json.loads((judged.folder.path / "summary.json").read_text())["left-out"]["clients"]
    assert "client-0" in [each["client"] for each in left_out]
    asked = {node for action, node in grid.sent if action == "query.validation_losses"}
    assert asked <= set(grid.contexts) and len(asked) > 1


@pytest.mark.integration
def test_judges_are_members_of_the_cluster_and_never_the_author(tmp_path):
    strategy, grid = run_quickly(tmp_path, judges=2, **TWO_GROUPS)
    trained_by, pairs = {}, 0
    for action, node in grid.sent:
        if action == "train.dual":
            trained_by.setdefault(group_of(node - 101), set()).add(node)
        elif action == "query.validation_losses":
            assert trained_by[group_of(node - 101)] - {node}
            pairs += 1
        elif action == "evaluate":
            trained_by = {}
    judged = sum(len(line.get("judged", {})) for line in lines_of(strategy))
    assert judged and 0 < pairs <= 2 * judged
    assert all(
        each["of"] <= 2 for line in lines_of(strategy) for each in line.get("judged", {}).values()
    )


@pytest.mark.integration
def test_where_an_aggregator_outvotes_a_liar_nobody_is_asked_to_judge(tmp_path):
    strategy, grid = run_quickly(
        tmp_path,
        judges=3,
        aggregator="median",
        max_weight_share=0.9,
        **TWO_GROUPS | {"participation": 1.0, "num_rounds": 2},
    )
    assert not [action for action, _ in grid.sent if action == "query.validation_losses"]
    assert not any("judged" in line for line in lines_of(strategy))


@pytest.mark.integration
def test_a_mean_is_judged_however_many_reply(tmp_path):
    strategy, _ = run_quickly(
        tmp_path, judges=3, **TWO_GROUPS | {"participation": 1.0, "num_rounds": 2}
    )
    assert [len(line["judged"]) for line in lines_of(strategy)[1:]] == [8, 8]


@pytest.mark.integration
def test_newcomers_are_on_probation(tmp_path):
    """Even where many take part: their updates count once members have judged some harmless."""
    strategy, _ = run_quickly(
        tmp_path,
        judges=3,
        aggregator="median",
        **TWO_GROUPS
        | {"participation": 1.0, "newcomer_share": 0.25, "newcomer_round": 2, "num_rounds": 9},
    )
    lines = lines_of(strategy)
    placed = next(line for line in lines if line.get("placed"))
    first = lines[placed["round"] + 1]
    assert set(first["quarantined"]) == set(placed["placed"]) == set(first["judged"])
    last = lines[-1]
    assert "quarantined" not in last


@pytest.mark.integration
def test_a_resumed_run_is_the_one_that_went_on(tmp_path):
    """To the bit, quarantine and verdicts included."""
    base = {
        "run_dir": str(tmp_path),
        "judges": 3,
        "keep_checkpoints": 20,
        "observers": "round-log, checkpoints, closing-table",
    } | TWO_GROUPS

    def run(settings: Settings):
        grid = InProcessGrid(load_client_app(), settings)
        answer, lie = grid.answer, turned(0)
        grid.answer = lambda m: lie(
            m.metadata.dst_node_id - 101, m.metadata.message_type, answer(m)
        )
        strategy = open_run(settings)
        strategy.start(grid)
        return strategy

    whole = run(quick_settings(run_name="whole", **base))
    run(quick_settings(run_name="parts", **base | {"num_rounds": 7}))
    parts = run(quick_settings(resume=str(tmp_path / "parts"), **base))
    told = [
        [{key: line.get(key) for key in ("judged", "quarantined", "replied")} for line in lines]
        for lines in (lines_of(whole), lines_of(parts))
    ]
    assert told[0][8:] == told[1][8:]
    for one, other in zip(whole.state.models, parts.state.models, strict=True):
        assert all(one[part].equals(other[part]) for part in one)


@pytest.mark.parametrize("algorithm", ["ifca", "fedrc", "local", "ditto"])
def test_algorithms_whose_updates_nobody_can_judge_are_refused(algorithm):
    with pytest.raises(
        SettingsError, match=f"judges = 3: must be 0 with algorithm = '{algorithm}'"
    ):
        Settings.from_run_config({"judges": 3, "algorithm": algorithm})


@pytest.mark.integration
@pytest.mark.parametrize("algorithm", ["fedavg", "pacfl", "cfl"])
def test_other_algorithms_are_judged_too(tmp_path, algorithm):
    strategy, _ = run_quickly(
        tmp_path, judges=2, algorithm=algorithm, **TWO_GROUPS | {"num_rounds": 3}
    )
    assert any(line.get("judged") for line in lines_of(strategy))

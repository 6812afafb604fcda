"""Fifty clients that join at once, in one process: more than two cores carry as real nodes."""

import json
import time

import pytest
from fault_table import record
from memory_grid import run_quickly

FOUNDERS, NEWCOMERS = 6, 50
ALL = FOUNDERS + NEWCOMERS

pytestmark = [pytest.mark.e2e, pytest.mark.faults]


def test_fifty_join_within_one_round_and_nobody_else_moves(tmp_path):
    begun = time.monotonic()
    strategy, grid = run_quickly(
        tmp_path, num_clients=ALL, newcomer_share=NEWCOMERS / ALL,
        newcomer_round=2, num_rounds=3, participation=1.0, evaluate_every=3, warmup_epochs=6,
        secondary="none", recluster_share=0.0,
    )  # fmt: skip
    seconds = time.monotonic() - begun
    with (strategy.folder.path / "metrics.jsonl").open() as stream:
        lines = [json.loads(line) for line in stream]
    assert len(lines[2]["placed"]) == NEWCOMERS
    assert set(lines[2]["moved"]) == set(lines[2]["placed"])
    assert len(lines[3]["sampled"]) == ALL
    assert lines[3]["failed"] == []
    took = json.loads((strategy.folder.path / "seconds.jsonl").read_text().splitlines()[2])["train"]
    record(
        "fifty",
        f"all {NEWCOMERS} placed in the round in which they came, in waves of "
        f"{grid.most_under_way}, beside {FOUNDERS} that trained; the run took {seconds:.0f} s",
        lost=0, goes_on=took,
    )  # fmt: skip

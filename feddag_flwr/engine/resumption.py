"""Between a run and its checkpoints: what a stopped run needs to go on as if nothing had been."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from feddag_flwr.checkpoints import Checkpoint, CheckpointError, lasting_settings
from feddag_flwr.checkpoints.choice import BEST_ROUND
from feddag_flwr.engine import best_round
from feddag_flwr.engine.registration import await_nodes
from feddag_flwr.engine.round_report import as_json
from feddag_flwr.metrics import Evaluation, Metric, load_metrics, metric_names
from feddag_flwr.models.flat import layout_of
from feddag_flwr.state import Client, Unlabelled

if TYPE_CHECKING:
    from feddag_flwr.engine.strategy import ClusteredStrategy

logger = logging.getLogger("flwr")

# Of the groups of arrays in a checkpoint that are the comparison's, not the algorithm's.
PREFIX = "comparison."


def checkpoint_of(run: ClusteredStrategy) -> Checkpoint:
    """Return a run as it stands."""
    context, evaluator = run.context, run.evaluator
    notes: dict[str, Any] = {
        "nodes": dict(sorted(context.clients.nodes.items())),
        "held-out": [asdict(client) for client in context.held_out.values()],
        "true-groups": dict(sorted(context.true_groups.items())),
        "drifted": sorted(context.drifted),
        "delays": run.joins.delays(),
        "evaluations": evaluations_to_json(evaluator.evaluations),
        "held-out-evaluations": evaluations_to_json(evaluator.held_out_evaluations),
        "placements": evaluator.placements,
        "rounds-with-replies": run.rounds_with_replies,
        "bytes": run.report.totals,
        "postprocessors": run.training.postprocessors.state_dict(),
    }
    if run.training.judging.on:
        notes["reputation"] = run.training.judging.reputation.state_dict()
    if context.unlabelled:
        notes["unlabelled"] = as_json(context.unlabelled)
    if run.joins.replaced:
        notes["replaced"] = dict(sorted(run.joins.replaced.items()))
    if context.exchange.left_out.anything:
        notes["left-out"] = context.exchange.left_out.state_dict()
    kept = run.algorithm.state_dict()
    if run.comparison.on:
        notes["comparison"] = run.comparison.notes()
        kept = replace(kept, arrays=kept.arrays | run.comparison.arrays())
    if run.best.on:
        notes[BEST_ROUND] = run.best.notes()
        kept = replace(kept, arrays=kept.arrays | run.best.arrays())
    settings = lasting_settings(run.settings)
    layout = layout_of(context.bare_model(dual="secondary" in run.state.models[0]))
    return Checkpoint(run.state.server_round, settings, run.state, layout, kept, notes)


def resume(run: ClusteredStrategy, checkpoint: Checkpoint) -> None:
    """Make a run what it was, and learn which nodes the clients are on now.

    A `CheckpointError` says that another version of this app wrote it.
    """
    context, evaluator, notes = run.context, run.evaluator, checkpoint.notes
    metrics = load_metrics(metric_names(run.settings.run.metrics))
    context.state = checkpoint.state
    context.held_out = {client["name"]: Client(**client) for client in notes["held-out"]}
    context.true_groups = notes["true-groups"]
    context.drifted = set(notes["drifted"])
    context.unlabelled = {
        name: Unlabelled(**each) for name, each in notes.get("unlabelled", {}).items()
    }
    run.joins.replaced = {name: list(rounds) for name, rounds in notes.get("replaced", {}).items()}
    if "left-out" in notes:
        context.exchange.left_out.load_state_dict(notes["left-out"])
    if context.ledger is not None:
        context.ledger.read()
        logger.info("%s", context.ledger.in_words())
    evaluator.evaluations = evaluations_from_json(notes["evaluations"], metrics)
    evaluator.held_out_evaluations = evaluations_from_json(notes["held-out-evaluations"], metrics)
    evaluator.placements = notes["placements"]
    run.rounds_with_replies = notes["rounds-with-replies"]
    run.training.postprocessors.load_state_dict(notes.get("postprocessors", {}))
    run.report.go_on(notes["bytes"], context.state, context.unlabelled)
    groups = checkpoint.algorithm.arrays
    beside, best = (
        {group: groups[group] for group in groups if group.startswith(prefix)}
        for prefix in (PREFIX, best_round.PREFIX)
    )
    own = {group: groups[group] for group in groups if group not in beside | best}
    try:
        run.algorithm.load_state_dict(replace(checkpoint.algorithm, arrays=own))
        if run.comparison.on:
            run.comparison.load(beside, notes["comparison"])
        if run.best.on:
            run.best.load(best, notes[BEST_ROUND])
        if run.training.judging.on:
            run.training.judging.reputation.load_state_dict(notes["reputation"])
    except KeyError as error:
        raise CheckpointError(
            f"the checkpoint lacks {error}: it is of another version of this app"
        ) from error
    run.begin_algorithm()
    with context.phase("registration"):
        expected, exchange = len(notes["nodes"]), context.exchange
        there = set(await_nodes(exchange, run.settings, expected, enough=0))
        for name, node in notes["nodes"].items():
            if context.clients.bound or node in there:  # else it may have another id by now
                context.clients.claim(name, node, there)
        run.joins.meet(context.state.server_round, notes.get("delays", []))
    exchange.traffic.take()
    logger.info("the run goes on after round %d", context.state.server_round)


def evaluations_to_json(evaluations: Mapping[str, Evaluation]) -> dict[str, Any]:
    """Write evaluations, by client name: samples a class, and each metric's state by its name."""
    return {
        name: {
            "totals": evaluation.totals.tolist(),
            "states": {
                metric: {key: values.tolist() for key, values in state.items()}
                for metric, state in evaluation.states.items()
            },
        }
        for name, evaluation in evaluations.items()
    }


def evaluations_from_json(
    values: Mapping[str, Any], metrics: Sequence[Metric]
) -> dict[str, Evaluation]:
    """Read what `evaluations_to_json` wrote, under the same metrics."""
    return {name: _evaluation(value, metrics) for name, value in values.items()}


def _evaluation(value: Mapping[str, Any], metrics: Sequence[Metric]) -> Evaluation:
    totals = np.array(value["totals"], dtype=np.int64)
    states = {
        metric.name: {
            key: np.array(value["states"][metric.name][key], dtype=spec.dtype)
            for key, spec in metric.arrays(len(totals)).items()
        }
        for metric in metrics
    }
    return Evaluation(tuple(metrics), totals, states)

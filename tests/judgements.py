"""Evaluations for tests: the counts that the default metrics keep."""

import numpy as np

from feddag_flwr.metrics import DEFAULT_METRICS, Evaluation, load_metrics

METRICS = load_metrics(DEFAULT_METRICS)


def evaluation(hits, totals, loss_sum=0.0):
    """An evaluation with so many hits and samples a class, and such a sum of losses."""
    states = {
        "balanced-accuracy": {"hits": np.array(hits, np.int64)},
        "accuracy": {"hits": np.array(int(np.sum(hits)), np.int64)},
        "loss": {"sum": np.array(loss_sum, np.float64)},
    }
    return Evaluation(METRICS, np.array(totals, np.int64), states)


def hits(found):
    return found.states["balanced-accuracy"]["hits"].tolist()


def loss_sum(found):
    return float(found.states["loss"]["sum"])

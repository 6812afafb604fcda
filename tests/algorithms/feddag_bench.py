"""FedDAG on three clusters that never met, for its tests."""

import numpy as np
from algorithm_bench import Bench
from judgements import evaluation
from memory_grid import TRAINING, run_quickly

from feddag_flwr.aggregation import Weights
from feddag_flwr.algorithms.feddag.server import FedDAG
from feddag_flwr.algorithms.feddag.sharing import Sharing
from feddag_flwr.settings import Settings
from feddag_flwr.state import Client, ServerState

NOTHING = evaluation([0, 0], [0, 0])


def weights(*floats):
    return Weights(np.array(floats, np.float32))


GRAPH = {"teacher_clusters": "graph", "classifier_training": "joint"}


def clusters_of_four(tmp_path):
    """Clusters 0, 1, 2 with secondary encoders 10, 20, 30; 0 and 1 learn from 2, 2 from 0."""
    settings = Settings.from_run_config({"run-dir": str(tmp_path), "preset": "paper"})
    strategy = Bench(FedDAG, settings)
    names = ["a", "b", "c", "d"]
    strategy.state = ServerState(
        ("x", "y"), (1, 8, 8), ((0.0, 1.0),), {name: Client(name, 1, 1) for name in names}
    )
    models = [
        {"primary": weights(z), "secondary": weights(10 * (z + 1)), "classifier": weights(-z)}
        for z in range(3)
    ]
    strategy.state.set_clusters(names, [0, 1, 2, 2], models, [[2], [2], [0]])
    return strategy


def set_settings(strategy, settings):
    strategy.context.settings = strategy.algorithm.settings = settings
    strategy.algorithm._sharing = Sharing(settings)


def parts_sent(tmp_path, name, **changes):
    seen = {}

    def tamper(partition, action, reply):
        if action in TRAINING:
            info = reply.content.config_records["info"]
            seen.setdefault((info["round"], partition), sorted(info["parts"]))
        return reply

    strategy, _ = run_quickly(tmp_path, name=name, tamper=tamper, participation=1.0, **changes)
    return strategy, seen

"""Which classes a client holds, from its update alone: for where profiles are private.

In a step of cross-entropy the bias of a class falls by the rate times (mean predicted probability -
share of the class in the batch). So it rises for classes that are there, and falls for those that
are not (Zhao et al. 2020, arXiv 2001.02610, use the same sign for one image).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from feddag_flwr.data.datasets import load_dataset
from feddag_flwr.models.flat import get_parts
from feddag_flwr.records import TrainReply
from feddag_flwr.seeds import generator
from feddag_flwr.settings import Settings
from feddag_lab.attacks.attack import AttackTrial, Figures
from feddag_lab.attacks.defences import BFLOAT16, DEFENCES, ON_UPDATES, PRIVATE_PROFILE
from feddag_lab.attacks.image_pool import DIGITS, ImagePool
from feddag_lab.attacks.ranking import separation
from feddag_lab.attacks.victim import Victim, scale_of

SKEW, LDA = "3 of 10 classes", "Dirichlet(0.5)"
SCENARIOS: Mapping[str, Mapping[str, Any]] = {
    SKEW: {"scenario": "label-skew", "label-skew": 30.0},
    LDA: {"scenario": "lda", "dirichlet-alpha": 0.5},
}
# Share of Fashion-MNIST's training images with which a client has 60 as a mean.
SMALL = {"train-share": 0.02, "test-share": 0.1}


class HeldClasses:
    """Ranks classes by how far their bias rose in a client's first round."""

    name = "classes"
    title = "Classes of a client from its update, where its profile is private"
    formats: Mapping[str, str] = {
        "auc": ".3f", "low": ".3f", "high": ".3f", "right": ".1%", "share_correlation": ".2f",
    }  # fmt: skip

    def trials(
        self, dataset: str, seeds: Iterable[int], *, smallest: bool
    ) -> Sequence[AttackTrial]:
        """Vary how classes are dealt; defences beside the private profile."""
        defences = (PRIVATE_PROFILE, BFLOAT16, *ON_UPDATES)
        return [
            AttackTrial(
                self.name, dataset, defence, seed, {"scenario": scenario, "clients": clients}
            )
            for scenario in SCENARIOS
            for defence in (defences[:1] if smallest else defences)
            for seed in seeds
            for clients in ([4] if smallest else [20])
        ]

    def run(self, trial: AttackTrial, pool: ImagePool) -> Figures:
        """Have every client train the first model for a round."""
        clients = int(trial.case["clients"])
        config = {
            **pool.config, **SCENARIOS[str(trial.case["scenario"])],
            **DEFENCES[PRIVATE_PROFILE], **DEFENCES[trial.defence], "seed": trial.seed,
            "num-clients": clients, "client-groups": min(5, clients),
        }  # fmt: skip
        if trial.dataset != DIGITS:
            config |= SMALL
        settings = Settings.from_run_config(config)
        scale = scale_of(load_dataset(settings).train)
        rises, shares = [], []
        for partition in range(settings.run.num_clients):
            victim = Victim.of_partition(settings, partition, scale)
            rises.append(_rises(victim))
            counts = np.bincount(victim.train_part.labels, minlength=pool.num_classes)
            shares.append(counts / counts.sum())
        return _compared(np.array(rises), np.array(shares), trial.seed)


def _rises(victim: Victim) -> NDArray[np.float64]:
    """Return how far the bias of each class rose, from what the server reads."""
    reply = victim.train(get_parts(victim.model())).reply
    return bias_rises(reply, victim)


def bias_rises(reply: TrainReply, victim: Victim) -> NDArray[np.float64]:
    """Find the bias in the update of a classifier: after the weights of the half on P."""
    head = victim.model().classifier.primary_head
    first = head.weight.numel()
    moved = reply.update_of("classifier")[first : first + head.bias.numel()]
    return moved.astype(np.float64)


def _compared(rises: NDArray[np.float64], shares: NDArray[np.float64], seed: int) -> Figures:
    """Compare with the truth, over all clients and classes; `right` takes a rise for presence."""
    held = shares > 0
    if held.all():
        return {"skipped": "every client holds every class"}
    found = separation(rises[held], rises[~held], generator(seed, "replicates"))
    return {
        "auc": found.auc,
        "low": found.low,
        "high": found.high,
        "right": float(((rises > 0) == held).mean()),
        "share_correlation": float(stats.spearmanr(rises.ravel(), shares.ravel()).statistic),
    }

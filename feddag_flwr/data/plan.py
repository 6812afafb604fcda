"""A scenario's plan: which client gets how much of what, and how it varies.

The plan follows from the sizes of the dataset's strata, the settings and the seed alone, so that
every process makes the same one. A stratum is a class, or a class within a domain.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from feddag_flwr.data.partition import (
    assign_groups,
    classes_per_group,
    deal_classes,
    domain_counts,
    draw_class_pairs,
    label_skew_counts,
    lda_counts,
)
from feddag_flwr.data.samples import DataError, Dataset
from feddag_flwr.data.settings import DataSettings, corruption_kinds
from feddag_flwr.data.variation import QUARTER_TURNS, Variation, map_labels
from feddag_flwr.seeds import generator
from feddag_flwr.settings import Settings

IntArray = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Plan:
    """What all clients of a common dataset have in common.

    `true_groups` (N,) numbers each combination of label group or domain, concept, rotation and
    corruption that a client has, from 0 in that order; it is None where nothing varies by groups
    (plain lda).
    """

    counts: IntArray  # (N, strata) training samples; stratum s is class s mod C of domain s // C
    num_classes: int  # C, of the dataset
    concepts: IntArray  # (N,), as all of these
    quarter_turns: IntArray
    corruptions: IntArray  # places in `kinds`
    severities: IntArray
    kinds: tuple[str, ...]  # ("",) where nothing is corrupted
    true_groups: IntArray | None

    def variation(self, client: int) -> Variation:
        """Return how the client's data varies."""
        return Variation(
            int(self.concepts[client]),
            int(self.quarter_turns[client]),
            self.kinds[self.corruptions[client]],
            int(self.severities[client]),
        )

    def true_group(self, client: int) -> int | None:
        """Return the client's group, if there are any."""
        return None if self.true_groups is None else int(self.true_groups[client])

    def label_counts(self) -> IntArray:
        """Count the training labels of each client as it sees them: shape (N, C)."""
        by_class: IntArray = self.counts.reshape(len(self.counts), -1, self.num_classes).sum(axis=1)
        labels = np.arange(self.num_classes)
        seen = np.empty_like(by_class)
        for concept in np.unique(self.concepts).tolist():
            clients = np.flatnonzero(self.concepts == concept)
            mapped = map_labels(labels, concept, self.num_classes)
            seen[np.ix_(clients, mapped)] = by_class[clients]
        return seen


class PlanKey(NamedTuple):
    """What a plan depends on; with the dataset, the key under which it is kept."""

    data: DataSettings
    num_clients: int
    seed: int

    @classmethod
    def of(cls, settings: Settings) -> PlanKey:
        """Take it from the settings of a run."""
        return cls(settings.data, settings.run.num_clients, settings.run.seed)


def make_plan(dataset: Dataset, settings: Settings) -> Plan:
    """Plan the scenario; a second call in the same process returns the same object."""
    sides = dataset.sample_shape[-2:]
    if settings.data.rotations == QUARTER_TURNS and len(set(sides)) > 1:
        raise DataError(
            f"rotations = {settings.data.rotations}: images of dataset {dataset.name!r} are "
            f"{sides[0]} x {sides[1]}; quarter turns need square ones (rotations = 2 does not)"
        )
    strata = len(dataset.class_names) * max(1, len(dataset.domain_names))
    sizes = np.bincount(dataset.train.labels, minlength=strata)
    return _plan(
        tuple(sizes.tolist()), dataset.class_names, dataset.domain_names, PlanKey.of(settings)
    )


@lru_cache(maxsize=4)
def _plan(
    sizes: tuple[int, ...],
    class_names: tuple[str, ...],
    domain_names: tuple[str, ...],
    wanted: PlanKey,
) -> Plan:
    groups: IntArray | None
    if wanted.data.scenario == "domains":
        counts, groups = _split_domains(sizes, domain_names, wanted)
    else:
        counts, groups = _split_classes(sizes, class_names, wanted)
    if wanted.data.concepts > 1 and len(class_names) < 3:
        raise DataError(
            f"concepts = {wanted.data.concepts}: the maps y and (C - y) mod C are the same for "
            f"{len(class_names)} class(es); expected at least 3"
        )
    kinds = corruption_kinds(wanted.data.corruptions) or ("",)
    concepts = _deal(wanted, wanted.data.concepts, "deal-concepts")
    turns = _deal(wanted, wanted.data.rotations, "deal-rotations") * (
        QUARTER_TURNS // wanted.data.rotations
    )
    corruptions = _deal(wanted, len(kinds), "deal-corruptions")
    varying = [groups] if groups is not None else []
    varying += [levels for levels in (concepts, turns, corruptions) if levels.any()]
    return Plan(
        counts=counts,
        num_classes=len(class_names),
        concepts=concepts,
        quarter_turns=turns,
        corruptions=corruptions,
        severities=_severities(wanted, corrupted=kinds != ("",)),
        kinds=kinds,
        true_groups=_number_combinations(varying) if varying else None,
    )


def _split_classes(
    sizes: tuple[int, ...], class_names: tuple[str, ...], wanted: PlanKey
) -> tuple[IntArray, IntArray | None]:
    """Count the samples of each client and class, and name its label group (I, III, B.10)."""
    if wanted.data.scenario == "lda":
        counts = lda_counts(
            sizes,
            num_clients=wanted.num_clients,
            alpha=wanted.data.dirichlet_alpha,
            floor=wanted.data.min_class_samples,
            seed=wanted.seed,
        )
        return counts, None
    if wanted.data.scenario == "class-pairs":
        group_classes = draw_class_pairs(len(sizes), wanted.data.client_groups, wanted.seed)
    else:
        per_group = classes_per_group(len(sizes), wanted.data.label_skew)
        group_classes = deal_classes(len(sizes), wanted.data.client_groups, per_group, wanted.seed)
    groups = assign_groups(wanted.num_clients, wanted.data.client_groups, wanted.seed)
    counts = label_skew_counts(
        sizes,
        class_names,
        groups=groups,
        group_classes=group_classes,
        alpha=wanted.data.dirichlet_alpha,
        floor=wanted.data.min_class_samples,
        seed=wanted.seed,
    )
    return counts, groups


def _split_domains(
    sizes: tuple[int, ...], domain_names: tuple[str, ...], wanted: PlanKey
) -> tuple[IntArray, IntArray]:
    """Deal the clients to domains and split each domain over its own."""
    if wanted.num_clients < len(domain_names):
        raise DataError(
            f"num-clients = {wanted.num_clients}: data-dir has {len(domain_names)} domains "
            f"({', '.join(domain_names)}), which need a client each at least"
        )
    groups = assign_groups(wanted.num_clients, len(domain_names), wanted.seed)
    counts = domain_counts(
        np.reshape(sizes, (len(domain_names), -1)),
        domain_names,
        groups=groups,
        alpha=wanted.data.dirichlet_alpha,
        floor=wanted.data.min_class_samples,
        seed=wanted.seed,
    )
    return counts, groups


def _deal(wanted: PlanKey, levels: int, purpose: str) -> IntArray:
    """Deal levels from 0 to the clients, each to as many as any other or to one more."""
    return assign_groups(wanted.num_clients, levels, wanted.seed, purpose=purpose)


def _severities(wanted: PlanKey, *, corrupted: bool) -> IntArray:
    """Return each client's severity: the setting's, or for 0 a draw from 1 to 5."""
    if not corrupted:
        return np.zeros(wanted.num_clients, dtype=np.int64)
    if wanted.data.severity == 0:
        return generator(wanted.seed, "draw-severities").integers(1, 6, wanted.num_clients)
    return np.full(wanted.num_clients, wanted.data.severity, dtype=np.int64)


def _number_combinations(varying: list[IntArray]) -> IntArray:
    """Give each client the number of its combination: those that occur, in ascending order."""
    _, numbers = np.unique(np.stack(varying, axis=1), axis=0, return_inverse=True)
    flat: IntArray = numbers.reshape(-1)  # some versions of NumPy keep an axis of length 1
    return flat

"""Fusion by evidence: each view counts as far as it shows groups, and any of them can part two.

Eq. 8 of arXiv 2602.23504 gives the weight to the view with more contrast, of groups or of chance.
Here a view's weight is measured on what groups do and chance does not (`persistence`,
`class_conditional_distance`). And the views are not averaged: two clients are as far apart as the
view says that sees the largest difference, so that a view in which they agree does not talk the
others down. V of Eq. 6 has no say of its own: where no view shows groups nobody is parted, though V
varies with the clients' sizes, which stretched to [0, 1] looks like groups. See docs/fusion.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import astuple, dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from feddag_flwr.similarity.class_conditional_distance import (
    ClassConditionalDistance,
    row_distances,
)
from feddag_flwr.similarity.label_residual_gradient import LabelResidualGradient
from feddag_flwr.similarity.label_set_distance import label_set_distance, label_set_distance_to
from feddag_flwr.similarity.matrices import FloatArray, IntArray
from feddag_flwr.similarity.normalisation import ROUNDING, Scale
from feddag_flwr.similarity.persistence import (
    average_linkage,
    persistence_beyond_chance,
    shuffled_pairs,
)

PERSISTENCE: Final = (0.4, 0.55)  # below the one a view has no weight, from the other all of it
CERTAINTY: Final = (0.2, 0.4)  # the same for the class-conditional view's reliability
NEAREST: Final = 0.75  # share of clients whose nearest peer is as near as any: the rest is noise


@dataclass(frozen=True)
class View:
    """What becomes of a view's dissimilarities in the fusion."""

    evidence: float  # persistence beyond chance, or reliability
    weight: float  # in [0, 1]: 0 where there is no evidence or only rounding, 1 beyond doubt
    floor: float  # counts as 0: three quarters of the clients have a peer within
    top: float  # counts as 1: here the dendrogram ends; both in the view's unit

    def apply(self, values: FloatArray) -> FloatArray:
        """Bring dissimilarities to [0, weight]."""
        return self.weight * Scale(self.floor, self.top).apply(values)


def ramp(value: float, bounds: tuple[float, float]) -> float:
    """Return 0 below the lower bound, 1 above the upper one, a straight line between."""
    low, high = bounds
    return float(np.clip((value - low) / (high - low), 0.0, 1.0))


def view_of(matrix: FloatArray, evidence: float, bounds: tuple[float, float]) -> View:
    """Weigh a view by its evidence."""
    merges = average_linkage(matrix)
    if not len(merges):
        return View(evidence, 0.0, 0.0, 0.0)
    nearest = np.where(np.eye(len(matrix), dtype=bool), np.inf, matrix).min(axis=1)
    floor, top = float(np.quantile(nearest, NEAREST)), float(merges[-1, 2])
    weight = ramp(evidence, bounds) if top - floor > ROUNDING else 0.0
    return View(evidence, weight, floor, top)


@dataclass(frozen=True, eq=False)
class Evidence:
    """How N clients' views, ``label-set``, ``class-conditional`` and ``gradient``, are weighed."""

    views: dict[str, View]
    class_conditional: ClassConditionalDistance
    label_residual_gradient: LabelResidualGradient

    @classmethod
    def of(
        cls,
        gradient: FloatArray,
        angles: npt.NDArray[np.floating],
        counts: npt.NDArray[np.integer],
        seen: npt.NDArray[np.integer],
    ) -> tuple[Evidence, FloatArray, FloatArray]:
        """Weigh and fuse the views of N clients.

        From G (N, N) of Eq. 3, V' (C, N, N) of Eq. 4 and the samples of each class (N, C), in
        `seen` 0 where a client sent no vectors of the class.

        Returns
        -------
        Evidence
        fused : ndarray, shape (N, N)
            The proximity matrix A, in [0, 1]; all 0 where no view has evidence of groups.
        pairs : ndarray, shape (N, N)
            Mean angles of `ClassConditionalDistance`, against whose rows newcomers' are compared.
        """
        class_conditional, pairs = ClassConditionalDistance.of(angles, seen)
        label_residual_gradient, remainders = LabelResidualGradient.of(gradient, counts)
        matrices = {
            "label-set": label_set_distance(counts),
            "class-conditional": row_distances(pairs, pairs, same=True),
            "gradient": remainders,
        }

        def other_holders(clients: IntArray, generator: np.random.Generator) -> FloatArray:
            return label_set_distance(generator.permuted(counts[clients], axis=0))

        def other_pairs(clients: IntArray, generator: np.random.Generator) -> FloatArray:
            return shuffled_pairs(remainders[np.ix_(clients, clients)], generator)

        lowest = PERSISTENCE[0]
        label_set = persistence_beyond_chance(matrices["label-set"], other_holders, lowest)
        evidence = {
            "label-set": (label_set, PERSISTENCE),
            "class-conditional": (class_conditional.certain, CERTAINTY),
            "gradient": (persistence_beyond_chance(remainders, other_pairs, lowest), PERSISTENCE),
        }
        views = {name: view_of(matrices[name], *evidence[name]) for name in matrices}
        weighed = cls(views, class_conditional, label_residual_gradient)
        return weighed, _strongest(views, matrices), pairs

    def rows(
        self,
        gradient: FloatArray,
        newcomer_counts: npt.NDArray[np.integer],
        counts: npt.NDArray[np.integer],
        newcomer_pairs: FloatArray,
        pairs: FloatArray,
    ) -> FloatArray:
        """Rows (M, R) of A: fuse M newcomers against R others, of whom the N first were weighed.

        From rows of G, samples of each class, and the mean angles to the N
        (`ClassConditionalDistance`).
        """
        matrices = {
            "label-set": label_set_distance_to(newcomer_counts, counts),
            "class-conditional": row_distances(newcomer_pairs, pairs),
            "gradient": self.label_residual_gradient.rows(gradient, newcomer_counts, counts),
        }
        return _strongest(self.views, matrices)

    def notes(self) -> dict[str, Any]:
        """Return all of it as plain values for JSON, exact to the bit."""
        return {
            "views": {name: list(astuple(view)) for name, view in self.views.items()},
            "class-conditional": _plain(self.class_conditional),
            "label-residual-gradient": _plain(self.label_residual_gradient),
        }

    @classmethod
    def of_notes(cls, notes: Mapping[str, Any]) -> Evidence:
        """Make what `notes` wrote."""
        return cls(
            {name: View(*values) for name, values in notes["views"].items()},
            ClassConditionalDistance(**_arrays(notes["class-conditional"])),
            LabelResidualGradient(**_arrays(notes["label-residual-gradient"])),
        )


def _plain(fields: object) -> dict[str, Any]:
    """Write a data class of numbers and arrays under hyphenated names."""
    return {
        name.replace("_", "-"): value.tolist() if isinstance(value, np.ndarray) else value
        for name, value in vars(fields).items()
    }


def _arrays(notes: Mapping[str, Any]) -> dict[str, Any]:
    """Read the fields that `_plain` wrote."""
    return {
        name.replace("-", "_"): np.array(value) if isinstance(value, list) else value
        for name, value in notes.items()
    }


def _strongest(views: Mapping[str, View], matrices: Mapping[str, FloatArray]) -> FloatArray:
    """Find the largest weighted dissimilarity of each pair over all views, in [0, 1].

    Weighed against the largest weight: a clustering is chosen by how long it lasts between
    thresholds 0 and 1; where all ended at 0.5, one cluster would last half of that for nothing.
    """
    weighted = [view.apply(matrices[name]) for name, view in views.items()]
    strongest: FloatArray = np.maximum.reduce(weighted)
    largest = max(view.weight for view in views.values())
    return strongest / largest if largest > 0.0 else strongest

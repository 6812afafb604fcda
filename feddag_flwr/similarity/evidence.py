"""Fusion by evidence: each view counts as far as it shows groups, and any of them can part two.

Eq. 8 of arXiv 2602.23504 gives the weight to the view with more contrast, whether its contrast
comes of groups or of chance. Here a view's weight is measured on what groups do and chance does
not: see `feddag_flwr.similarity.persistence` and
`feddag_flwr.similarity.class_conditional_distance`. And the
views are not averaged: two clients are as far apart as the view says that sees the largest
difference, so that a view in which they agree does not talk the others down. V of Eq. 6 has no
say of its own: where no view shows groups nobody is parted. V varies with the clients' sizes then,
and stretched to [0, 1] that looks like groups.
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
from feddag_flwr.similarity.normalisation import ROUNDING
from feddag_flwr.similarity.persistence import (
    average_linkage,
    persistence_beyond_chance,
    shuffled_pairs,
)

PERSISTENCE: Final = (0.4, 0.55)
"""Persistence of a dendrogram below which a view has no weight, and from which all of it."""

CERTAINTY: Final = (0.2, 0.4)
"""The same for the class-conditional view's reliability, as far as it is certain."""

NEAREST: Final = 0.75
"""Share of the clients whose nearest peer counts as no farther than any: what is left is noise."""


@dataclass(frozen=True)
class View:
    """What becomes of a view's dissimilarities in the fusion.

    Attributes
    ----------
    evidence : float
        What was measured: persistence beyond chance or reliability.
    weight : float
        In [0, 1]: 0 where the evidence is no more than chance gives, or where nobody is farther
        than others but for rounding; 1 where it is beyond doubt.
    floor, top : float
        Dissimilarities that count as 0 and 1, in the view's unit: within the one three quarters
        of the clients have a peer, at the other the dendrogram of the view ends.
    """

    evidence: float
    weight: float
    floor: float
    top: float

    def apply(self, values: FloatArray) -> FloatArray:
        """Bring dissimilarities to [0, weight]."""
        if self.top - self.floor <= ROUNDING:
            return np.zeros_like(values)
        scaled = (values - self.floor) / (self.top - self.floor)
        return self.weight * np.clip(scaled, 0.0, 1.0)


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


def _label_set_evidence(presence: FloatArray, counts: npt.NDArray[np.integer]) -> float:
    """Measure persistence beyond that of chance with as many clients that hold each class."""

    def shuffle(clients: IntArray, generator: np.random.Generator) -> FloatArray:
        return label_set_distance(generator.permuted(counts[clients], axis=0))

    return persistence_beyond_chance(presence, shuffle, PERSISTENCE[0])


def _gradient_evidence(remainders: FloatArray) -> float:
    """Measure persistence beyond that of the same remainders among other pairs."""

    def shuffle(clients: IntArray, generator: np.random.Generator) -> FloatArray:
        return shuffled_pairs(remainders[np.ix_(clients, clients)], generator)

    return persistence_beyond_chance(remainders, shuffle, PERSISTENCE[0])


@dataclass(frozen=True, eq=False)
class Evidence:
    """How N clients' views are weighed: measures and fuses others the same way.

    Attributes
    ----------
    views : dict of str to View
        ``label-set``, ``class-conditional`` and ``gradient``.
    class_conditional : ClassConditionalDistance
    label_residual_gradient : LabelResidualGradient
    """

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

        Parameters
        ----------
        gradient : ndarray, shape (N, N)
            G of Eq. 3, degrees.
        angles : ndarray, shape (C, N, N)
            V' of Eq. 4, degrees.
        counts : ndarray of int, shape (N, C)
            Samples of each class on each client.
        seen : ndarray of int, shape (N, C)
            The same where the client has vectors of the class, else 0.

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
        found = {
            "label-set": (_label_set_evidence(matrices["label-set"], counts), PERSISTENCE),
            "class-conditional": (class_conditional.certain, CERTAINTY),
            "gradient": (_gradient_evidence(remainders), PERSISTENCE),
        }
        views = {name: view_of(matrices[name], *found[name]) for name in matrices}
        return (
            cls(views, class_conditional, label_residual_gradient),
            _strongest(views, matrices),
            pairs,
        )

    def rows(
        self,
        gradient: FloatArray,
        newcomer_counts: npt.NDArray[np.integer],
        counts: npt.NDArray[np.integer],
        newcomer_pairs: FloatArray,
        pairs: FloatArray,
    ) -> FloatArray:
        """Fuse M newcomers' rows against R others, of whom the N first were weighed.

        Parameters
        ----------
        gradient : ndarray, shape (M, R)
            Rows of G, degrees.
        newcomer_counts, counts : ndarray of int, shapes (M, C) and (R, C)
            Samples of each class.
        newcomer_pairs, pairs : ndarray, shapes (M, N) and (R, N)
            Mean angles of `ClassConditionalDistance` to the N.

        Returns
        -------
        ndarray, shape (M, R)
            Rows of A, in [0, 1].
        """
        matrices = {
            "label-set": label_set_distance_to(newcomer_counts, counts),
            "class-conditional": row_distances(newcomer_pairs, pairs),
            "gradient": self.label_residual_gradient.rows(gradient, newcomer_counts, counts),
        }
        return _strongest(self.views, matrices)

    def notes(self) -> dict[str, Any]:
        """Return all of it as plain values for JSON, exact to the bit."""
        class_conditional, beyond = self.class_conditional, self.label_residual_gradient
        return {
            "views": {name: list(astuple(view)) for name, view in self.views.items()},
            "class-conditional": {
                "noise": class_conditional.noise.tolist(),
                "noise-left": class_conditional.noise_left,
                "class-means": class_conditional.class_means.tolist(),
                "mean": class_conditional.mean,
                "reliability": class_conditional.reliability,
                "certain": class_conditional.certain,
            },
            "label-residual-gradient": {
                "coefficients": beyond.coefficients.tolist(),
                "lowest": beyond.lowest,
                "explained": beyond.explained,
            },
        }

    @classmethod
    def of_notes(cls, notes: Mapping[str, Any]) -> Evidence:
        """Make what `notes` wrote."""
        class_conditional, beyond = notes["class-conditional"], notes["label-residual-gradient"]
        return cls(
            {name: View(*values) for name, values in notes["views"].items()},
            ClassConditionalDistance(
                np.array(class_conditional["noise"]),
                class_conditional["noise-left"],
                np.array(class_conditional["class-means"]),
                class_conditional["mean"],
                class_conditional["reliability"],
                class_conditional["certain"],
            ),
            LabelResidualGradient(
                np.array(beyond["coefficients"]), beyond["lowest"], beyond["explained"]
            ),
        )


def _strongest(views: Mapping[str, View], matrices: Mapping[str, FloatArray]) -> FloatArray:
    """Find the largest weighted dissimilarity of each pair over all views, in [0, 1].

    Weighed against the largest weight: a clustering is chosen by how long it lasts between
    thresholds 0 and 1, and where all ended at 0.5, one cluster would last half of that for nothing.
    All are 0 where no view has a weight.
    """
    found: FloatArray = np.maximum.reduce(
        [view.apply(matrices[name]) for name, view in views.items()]
    )
    largest = max(view.weight for view in views.values())
    return found / largest if largest > 0.0 else found

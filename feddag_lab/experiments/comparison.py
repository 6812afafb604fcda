"""Differences of one algorithm to each of its baselines, paired by client and seed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from feddag_lab.experiments.finished import FinishedTrial
from feddag_lab.experiments.product import generator
from feddag_lab.experiments.results import Results
from feddag_lab.experiments.statistics import (
    Interval,
    bootstrap_interval,
    mean_of_means,
    t_interval,
)

PREFERRED_REFERENCE = "FedDAG"
BOOTSTRAP_SEED = 0

Outcome = Literal["win", "over clients only: win", "tie", "over clients only: loss", "loss"]


class UnpairedError(ValueError):
    """Two runs have no clients in common that hold the same data."""


@dataclass(frozen=True, eq=False)
class PairedDifference:
    """The reference minus one rival on one scenario, in points (percent of balanced accuracy).

    Attributes
    ----------
    scenario, reference, baseline : str
    seed_means : dict of int to float
        Mean over clients of the difference, by seed.
    pairs : int
        Paired clients, over all seeds.
    mean : float or None
        Mean over seeds; None when no seed could be paired.
    bootstrap : Interval or None
        Over seeds and clients, see `feddag_lab.experiments.statistics.two_level_bootstrap`.
    student : Interval or None
        Over the means of seeds; None with fewer than two.
    lacking : dict of int to tuple of str
        By seed, which of the two algorithms have no figures.
    notes : tuple of str
        Seeds that were not paired and clients without a partner, each with its reason.
    """

    scenario: str
    reference: str
    baseline: str
    seed_means: dict[int, float]
    pairs: int
    mean: float | None
    bootstrap: Interval | None
    student: Interval | None
    lacking: dict[int, tuple[str, ...]]
    notes: tuple[str, ...]

    @property
    def outcome(self) -> Outcome | None:
        """Win or loss when both intervals leave out 0; None when there is no interval.

        Where the bootstrap leaves it out and the t interval over seeds does not, or is not there,
        that holds over the clients of these seeds only.
        """
        if self.bootstrap is None:
            return None
        sign = self.bootstrap.sign
        if sign == 0:
            return "tie"
        if self.student is not None and self.student.sign == sign:
            return "win" if sign > 0 else "loss"
        return "over clients only: win" if sign > 0 else "over clients only: loss"


def reference_of(results: Results) -> str:
    """Return the algorithm that baselines are held against: FedDAG, or else the suite's first."""
    algorithms = results.suite.algorithms
    return PREFERRED_REFERENCE if PREFERRED_REFERENCE in algorithms else next(iter(algorithms))


def compare_all(results: Results) -> list[PairedDifference]:
    """Compare the reference with each baseline on each scenario, in the suite's order."""
    reference = reference_of(results)
    return [
        compare(results, scenario, reference, baseline)
        for scenario in results.suite.scenarios
        for baseline in results.suite.algorithms
        if baseline != reference
    ]


def compare(results: Results, scenario: str, reference: str, baseline: str) -> PairedDifference:
    """Compare two algorithms on one scenario.

    The generator of the bootstrap comes from the names, so that a further baseline or scenario
    changes no interval.
    """
    trials = {name: results.finished(scenario, name) for name in (reference, baseline)}
    differences: dict[int, NDArray[np.float64]] = {}
    lacking: dict[int, tuple[str, ...]] = {}
    notes = []
    for seed in results.suite.seeds:
        absent = tuple(
            name
            for name, by_seed in trials.items()
            if seed not in by_seed or by_seed[seed].judged.empty
        )
        if absent:
            lacking[seed] = absent
            continue
        try:
            ours, theirs = trials[reference][seed], trials[baseline][seed]
            differences[seed], alone = paired_differences(ours, theirs)
        except UnpairedError as error:
            notes.append(f"seed {seed}, {baseline} against {reference}, not paired: {error}")
            continue
        if alone:
            notes.append(f"seed {seed}: in one of the two only, left out: {', '.join(alone)}")
    values = list(differences.values())
    seed_means = {seed: float(each.mean()) for seed, each in differences.items()}
    rng = generator(BOOTSTRAP_SEED, "bootstrap", client=f"{scenario}\n{reference}\n{baseline}")
    return PairedDifference(
        scenario=scenario,
        reference=reference,
        baseline=baseline,
        seed_means=seed_means,
        pairs=sum(len(each) for each in values),
        mean=mean_of_means(values) if values else None,
        bootstrap=bootstrap_interval(values, rng) if values else None,
        student=t_interval(list(seed_means.values())),
        lacking=lacking,
        notes=tuple(notes),
    )


def paired_differences(
    ours: FinishedTrial, theirs: FinishedTrial
) -> tuple[NDArray[np.float64], list[str]]:
    """Subtract figures client by client.

    Parameters
    ----------
    ours, theirs : FinishedTrial
        Two runs with the same seed on the same scenario.

    Returns
    -------
    tuple of (ndarray of shape (n,), list of str)
        Differences in points, in the order of client names, and the clients that only one of the
        two runs has.

    Raises
    ------
    UnpairedError
        No client is in both, or the parts differ: a client has another number of test samples,
        or belongs to another true group.
    """
    mine, other = ours.judged, theirs.judged
    both = mine.merge(other, left_index=True, right_index=True, suffixes=(" ours", " theirs"))
    both = both.sort_index()
    if both.empty:
        raise UnpairedError("they have no client in common")
    _check_same(
        both, "samples", "{differing} of {known} clients have other test data, "
        "{first} has {mine} samples against {other}",
    )  # fmt: skip
    # Equal sizes alone do not tell parts apart; true groups do, where both runs know them.
    _check_same(
        both, "true-group", "{differing} of {known} clients are in other true groups, "
        "{first} in {mine} against {other}",
    )  # fmt: skip
    accuracy = both["balanced-accuracy ours"] - both["balanced-accuracy theirs"]
    alone = sorted(mine.index.symmetric_difference(other.index))
    return (100 * accuracy).to_numpy(dtype=np.float64), alone


def _check_same(both: pd.DataFrame, column: str, told: str) -> None:
    """Refuse pairs of clients that differ in a column, where both runs know it."""
    pairs = both[[f"{column} ours", f"{column} theirs"]].dropna()
    differing = pairs[pairs.iloc[:, 0] != pairs.iloc[:, 1]]
    if not differing.empty:
        mine, other = differing.iloc[0]
        what = told.format(
            differing=len(differing), known=len(pairs), first=differing.index[0], mine=mine,
            other=other,
        )  # fmt: skip
        raise UnpairedError(f"the parts differ: {what}")

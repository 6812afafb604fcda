"""Differences of one algorithm to each of its rivals, paired by client and seed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from feddag_flwr.seeds import generator
from feddag_lab.experiments.results import Results, Run, Scores
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
class Comparison:
    """The reference minus one rival on one scenario, in points (percent of balanced accuracy).

    Attributes
    ----------
    scenario, reference, rival : str
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
    rival: str
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
    """Return the algorithm that rivals are held against: FedDAG, or else the suite's first."""
    algorithms = results.suite.algorithms
    return PREFERRED_REFERENCE if PREFERRED_REFERENCE in algorithms else next(iter(algorithms))


def compare_all(results: Results) -> list[Comparison]:
    """Compare the reference with each rival on each scenario, in the suite's order."""
    reference = reference_of(results)
    return [
        compare(results, scenario, reference, rival)
        for scenario in results.suite.scenarios
        for rival in results.suite.algorithms
        if rival != reference
    ]


def compare(results: Results, scenario: str, reference: str, rival: str) -> Comparison:
    """Compare two algorithms on one scenario.

    The generator of the bootstrap comes from the names, so that a further rival or scenario
    changes no interval.
    """
    ours, theirs = results.runs(scenario, reference), results.runs(scenario, rival)
    differences: dict[int, NDArray[np.float64]] = {}
    lacking: dict[int, tuple[str, ...]] = {}
    notes = []
    for seed in results.suite.seeds:
        absent = tuple(
            name
            for name, runs in ((reference, ours), (rival, theirs))
            if seed not in runs or runs[seed].judged is None
        )
        if absent:
            lacking[seed] = absent
            continue
        try:
            differences[seed], alone = paired_differences(ours[seed], theirs[seed])
        except UnpairedError as error:
            notes.append(f"seed {seed}, {rival} against {reference}, not paired: {error}")
            continue
        if alone:
            notes.append(f"seed {seed}: in one of the two only, left out: {', '.join(alone)}")
    values = list(differences.values())
    seed_means = {seed: float(each.mean()) for seed, each in differences.items()}
    rng = generator(BOOTSTRAP_SEED, "bootstrap", client=f"{scenario}\n{reference}\n{rival}")
    return Comparison(
        scenario=scenario,
        reference=reference,
        rival=rival,
        seed_means=seed_means,
        pairs=sum(len(each) for each in values),
        mean=mean_of_means(values) if values else None,
        bootstrap=bootstrap_interval(values, rng) if values else None,
        student=t_interval(list(seed_means.values())),
        lacking=lacking,
        notes=tuple(notes),
    )


def paired_differences(ours: Run, theirs: Run) -> tuple[NDArray[np.float64], list[str]]:
    """Subtract figures client by client.

    Parameters
    ----------
    ours, theirs : Run
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
    mine, other = ours.judged or {}, theirs.judged or {}
    common = sorted(set(mine) & set(other))
    if not common:
        raise UnpairedError("they have no client in common")
    _check_parts(common, mine, other)
    _check_groups(common, ours.true_groups, theirs.true_groups)
    differences = [100 * (mine[n].balanced_accuracy - other[n].balanced_accuracy) for n in common]
    return np.array(differences), sorted(set(mine) ^ set(other))


def _check_parts(common: list[str], mine: Scores, other: Scores) -> None:
    differing = [name for name in common if mine[name].samples != other[name].samples]
    if differing:
        first = differing[0]
        raise UnpairedError(
            f"the parts differ: {len(differing)} of {len(common)} clients have other test data, "
            f"{first} has {mine[first].samples} samples against {other[first].samples}"
        )


def _check_groups(common: list[str], mine: Mapping[str, int], other: Mapping[str, int]) -> None:
    """Compare true groups where both runs know them: equal sizes alone do not tell parts apart."""
    known = [name for name in common if name in mine and name in other]
    differing = [name for name in known if mine[name] != other[name]]
    if differing:
        first = differing[0]
        raise UnpairedError(
            f"the parts differ: {len(differing)} of {len(known)} clients are in other true groups, "
            f"{first} in {mine[first]} against {other[first]}"
        )

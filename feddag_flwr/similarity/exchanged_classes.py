"""Clients whose classes look exchanged, as where a site codes its labels another way."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np
from scipy.optimize import linear_sum_assignment

from feddag_flwr.similarity.far_clients import ROBUST
from feddag_flwr.similarity.matrices import FloatArray, IntArray
from feddag_flwr.similarity.permutation import LIKE, BoolArray, LikeSizes, p_value
from feddag_flwr.similarity.threads import one_thread
from feddag_flwr.similarity.whitened_looks import WhitenedLooks

SHORT: Final = 3.0  # deviations by which an exchange of labels may gain less than it should

Pair = tuple[int, int]


class Exchanged(NamedTuple):
    """What is told of one client."""

    chance: float
    pairs: tuple[Pair, ...]  # of classes; empty where more than two went round


@dataclass(frozen=True, eq=False)
class Relabelling:
    """The labels that fit a client's classes best.

    `gain` is how much likelier they are (logarithm) than those it gave, `pairs` says so of each two
    classes that they exchange; `moves` has all classes that they call another one, and which.
    """

    gain: float
    pairs: dict[Pair, float]
    moves: tuple[Pair, ...]

    @classmethod
    def of(cls, gains: FloatArray, classes: IntArray) -> Relabelling:
        """Look among all permutations, by gains (c, c) of calling a class another one."""
        rows, columns = linear_sum_assignment(gains, maximize=True)
        pairs = {
            (int(classes[one]), int(classes[other])): float(gains[one, other] + gains[other, one])
            for one, other in zip(rows, columns, strict=True)
            if one < other and columns[other] == one
        }
        moves = [
            (int(classes[one]), int(classes[other]))
            for one, other in zip(rows, columns, strict=True)
            if one != other
        ]
        return cls(float(gains[rows, columns].sum()), pairs, tuple(moves))


SAME: Final = Relabelling(0.0, {}, ())


@one_thread
def exchanged_classes(
    looks: WhitenedLooks, fewest: int, level: float, rng: np.random.Generator
) -> dict[int, Exchanged]:
    """Find clients whose labels fit better when permuted: chance, and pairs of classes, by row.

    The largest gain of a permutation is held against the largest among the others, shuffled class
    by class among clients of like size. Who is found is left out, and the others are looked at
    again, down to the `fewest` that are looked at. Few odd vectors may be one client's by chance,
    which `GainsByChance` leaves out: so two or three classes must also gain what it costs the
    others to exchange them, as vectors between two classes do not. Pairs are told that do so by
    themselves but for chance, and gain more than any permutation after shuffling.
    """
    number = looks.weights.shape[1]
    found: dict[int, Exchanged] = {}
    gains, usable = gains_of_labels(looks, np.tile(np.arange(number), (len(looks.weights), 1)))
    observed = [
        one
        if not _may_coincide(len(one.moves), level)
        or _gained(gains, usable, looks.weights, row, one.moves, 0.0)
        else SAME
        for row, one in enumerate(relabellings(gains, usable))
    ]
    while number - len(found) >= fewest:
        rest = [row for row in range(number) if row not in found]
        row = max(rest, key=lambda one: observed[one].gain)
        if observed[row].gain <= 0.0:
            return found
        kept = looks.only(np.array(rest, dtype=np.intp))
        draws = GainsByChance(kept, rest.index(row), LikeSizes.of(list(kept.weights)), rng, [])
        chance = p_value(observed[row].gain, draws, level)
        if chance > level:
            return found
        told = [
            pair
            for pair, gain in observed[row].pairs.items()
            if gain > max(draws.values)
            and _gained(gains, usable, looks.weights, row, (pair, pair[::-1]), SHORT)
        ]
        found[row] = Exchanged(chance, tuple(sorted(told)))
    return found


def _may_coincide(moves: int, level: float) -> bool:
    """Whether chance deals so many odd vectors to one client more often than at a level."""
    return moves < 2 or float(LIKE) ** (1 - moves) > level


def _gained(
    gains: FloatArray,
    usable: BoolArray,
    weights: FloatArray,
    row: int,
    moves: tuple[Pair, ...],
    short_by: float,
) -> bool:
    """Whether calling classes others gains, a sample, what it costs the others.

    It may be so many robust standard deviations of the others short of that.
    """
    if not moves:
        return False
    classes, names = (list(side) for side in zip(*moves, strict=True))
    having = usable[:, classes].all(axis=1)
    samples = weights[classes].sum(axis=0)
    each = gains[:, classes, names].sum(axis=1) / np.maximum(samples, 1.0)
    middle = float(np.median(each[having]))
    away = (np.abs(each - middle) * np.sqrt(samples))[having]
    short = -(each[row] + middle) * np.sqrt(samples[row])
    return bool(short <= short_by * ROBUST * float(np.median(away)))


@dataclass(frozen=True, eq=False)
class GainsByChance:
    """Draws the largest gain of a permutation after shuffling, and keeps what it drew.

    Among the others are dealt what the client has in question. One of its classes in another's
    place tells what a single odd class gains. Who is dealt two of them has no say: where labels are
    exchanged, that is no chance, and it happens in one draw of ten.
    """

    looks: WhitenedLooks
    client: int  # in question
    sizes: LikeSizes
    rng: np.random.Generator
    values: list[float]

    def __call__(self) -> float:
        """Draw one."""
        own = self.sizes.shuffled(self.rng)
        gains, usable = gains_of_labels(self.looks, own)
        by_chance = (own == self.client).sum(axis=0) < 2
        drawn = relabellings(gains[by_chance], usable[by_chance])
        self.values.append(max((one.gain for one in drawn), default=0.0))
        return self.values[-1]


def gains_of_labels(looks: WhitenedLooks, own: IntArray) -> tuple[FloatArray, BoolArray]:
    """Log likelihood won by calling a class another one (n, C, C), of own or dealt vectors (C, n).

    0 where a class cannot be compared; told as well is where it can (n, C).
    """
    densities, usable = looks.log_densities(own)
    gains: FloatArray = densities - np.einsum("ncc->nc", densities)[:, :, None]
    gains[~(usable[:, :, None] & usable[:, None, :])] = 0.0
    return gains, usable


def relabellings(gains: FloatArray, usable: BoolArray) -> list[Relabelling]:
    """Find the best labels of each client."""
    found = [SAME] * len(gains)
    # Where no class fits better under another label, no permutation does.
    for row in np.flatnonzero((gains > 0.0).any(axis=(1, 2))):
        classes = np.flatnonzero(usable[row])
        found[row] = Relabelling.of(gains[row][np.ix_(classes, classes)], classes)
    return found

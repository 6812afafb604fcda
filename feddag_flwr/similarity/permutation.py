"""Permutation tests: how often chance makes as much of the same clients as was seen.

Chance is what shuffling makes of the data at hand: nothing here is a level that belongs to a data
set. The constants are counts.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from feddag_flwr.similarity.matrices import FloatArray, IntArray

REACHED: Final = 10  # draws with as much as was seen settle that it is chance
PLAIN: Final = 100  # draws after which what is far beyond them is taken for seen
LIKE: Final = 10  # clients of like size among whom a client is shuffled
TRADES: Final = 10  # times that each client trades classes between two draws
TIE: Final = 1e-9  # statistics that differ by no more, relatively, are equal but for rounding

BoolArray = npt.NDArray[np.bool_]


def p_value(observed: float, draw: Callable[[], float], level: float) -> float:
    """Estimate the chance of a statistic at least as large (Besag and Clifford, 1991).

    Draws end once `REACHED` of them are as large, or after twice as many as it takes to show
    `level`. Where the draws are exchangeable with what was observed, a value up to any given chance
    comes with that chance at most. What lies so far above all of the first `PLAIN` draws that no
    distribution of their mean and spread reaches it more often than `level` ends them too; the
    value is that bound then (Cantelli's inequality).

    Examples
    --------
    >>> p_value(1.0, lambda: 2.0, 0.01), p_value(1.0, lambda: 0.0, 0.01)
    (1.0, 0.004975124378109453)
    """
    as_much = observed - TIE * abs(observed)
    limit, reached = math.ceil(2.0 / level), 0
    first: list[float] = []
    for drawn in range(1, limit + 1):
        value = draw()
        reached += value >= as_much
        if reached == REACHED:
            return reached / drawn
        if drawn <= PLAIN:
            first.append(value)
        if drawn == PLAIN and not reached and (bound := _cantelli(observed, first)) <= level:
            return bound
    return (1 + reached) / (limit + 1)


def _cantelli(observed: float, draws: list[float]) -> float:
    """Largest chance of reaching what was observed under any distribution of the draws' moments.

    1 where the draws do not differ: their spread is not known then.
    """
    above, variance = observed - float(np.mean(draws)), float(np.var(draws, ddof=1))
    return variance / (variance + above**2) if variance > 0.0 else 1.0


@dataclass(frozen=True, eq=False)
class LikeSizes:
    """The sizes of some clients in each of C classes, to shuffle them among those of like size.

    A class has a row of h places, as many as the largest class has clients; what is left over of it
    stays where it is.
    """

    clients: IntArray  # (C,)
    ranks: FloatArray  # (C, h), of each size in its class, equal sizes alike
    logarithms: FloatArray  # (C, h), base 2, of the sizes in ascending order
    left_over: BoolArray  # (C, h)

    @classmethod
    def of(cls, sizes: Sequence[npt.NDArray[np.number]]) -> LikeSizes:
        """Take the sizes of each class, (h,) or fewer."""
        clients = np.array([len(of_class) for of_class in sizes], dtype=np.intp)
        places = np.arange(clients.max(initial=0))
        left_over = places >= clients[:, None]
        ranks = np.tile(places.astype(np.float64), (len(sizes), 1))
        logarithms = np.zeros(ranks.shape)
        for row, of_class in enumerate(sizes):
            ranks[row, : len(of_class)] = np.unique(of_class, return_inverse=True)[1]
            logarithms[row, : len(of_class)] = np.log2(np.maximum(np.sort(of_class), 1))
        return cls(clients, ranks, logarithms, left_over)

    def shuffled(self, generator: np.random.Generator) -> IntArray:
        """Draw permutations (C, h) that put each client in the place of one of like size.

        Clients are put in order of their sizes, ties at random, and shuffled within runs of `LIKE`
        that end where sizes double. Where runs begin is drawn, so that no two neighbours are never
        in one.
        """
        ties, deals = np.zeros(self.ranks.shape), np.zeros(self.ranks.shape)
        begins = np.zeros((2, len(self.clients), 1))
        for row, number in enumerate(self.clients):
            generator.random(out=ties[row, :number])
            begins[:, row, 0] = generator.random(), generator.integers(LIKE)
            generator.random(out=deals[row, :number])
        order = (self.ranks + ties).argsort(axis=1)
        places, rows = np.arange(order.shape[1]), np.arange(len(order))[:, None]
        doublings = np.floor(self.logarithms + begins[0])
        tens = np.floor((places + begins[1]) / LIKE)
        runs = tens * np.iinfo(np.int64).bits + doublings
        deals[:, 1:] += (runs[:, 1:] != runs[:, :-1]).cumsum(axis=1)  # number of the run
        np.copyto(deals, len(places) + places, where=self.left_over)
        permutations = np.empty_like(order)
        permutations[rows, order] = order[rows, deals.argsort(axis=1)]
        return permutations


def traded_classes(held: BoolArray, generator: np.random.Generator) -> BoolArray:
    """Shuffle who holds which class (n, C): each client as many, each class by as many clients.

    Pairs of clients trade classes that only one of them has, `TRADES` times ("curveball", Strona et
    al. 2014): one step of a chain that has all such tables as likely as each other.
    """
    pairs = len(held) // 2
    for _ in range(TRADES):
        order = generator.permutation(len(held))
        one, other = held[order[:pairs]], held[order[pairs : 2 * pairs]]
        only_one = one ^ other
        of_the_first = (one & only_one).sum(axis=1)
        keys = np.where(only_one, generator.random(only_one.shape), 2.0)
        ranks = keys.argsort(axis=1).argsort(axis=1)
        taken = only_one & (ranks < of_the_first[:, None])
        held = held.copy()
        held[order[:pairs]] = (one & ~only_one) | taken
        held[order[pairs : 2 * pairs]] = (other & ~only_one) | (only_one & ~taken)
    return held

"""Single clients that are unlike all others of their group, and what is odd about them.

One client alone makes no group (`group_tree` parts two and two at least), but it can be told: it is
far from the others in all classes, or two of its classes look exchanged, as where a site codes its
labels another way. Both are tests, and the chance of any false alarm in a run is bounded.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Final

import numpy as np
import numpy.typing as npt

from feddag_flwr.similarity.class_kernels import ClassKernel, class_kernels
from feddag_flwr.similarity.group_tree import TESTED, ClassSubspaces
from feddag_flwr.similarity.matrices import FloatArray, IntArray
from feddag_flwr.similarity.permutation import LikeSizes, p_value

FEWEST: Final = 8  # clients, among whom one can be told to be unlike the others
SEED: Final = 0  # the same clients give the same answer in every run
ROBUST: Final = 1.4826  # standard deviations of a normal distribution a median absolute deviation
SHORT: Final = 3.0  # deviations by which an exchange of labels may gain less than it should
MOST: Final = 6.0  # deviations that one class counts at most


@dataclass(frozen=True)
class OddClient:
    """One client that is unlike the others of its group.

    Attributes
    ----------
    row : int
        Its row.
    chance : float
        Chance of one at least as odd among so many clients, at most.
    exchanged : tuple of pairs of int
        Classes that look exchanged; empty where all classes look unlike the others'.
    """

    row: int
    chance: float
    exchanged: tuple[tuple[int, int], ...]


def odd_clients(data: ClassSubspaces, groups: IntArray, rate: float) -> list[OddClient]:
    """Find the odd ones among N clients in groups (N,), at a chance `rate` of any false alarm.

    Half of the rate is for each of the two tests, shared out among the groups by their sizes. Of
    more than `group_tree.TESTED` clients of a group, those are compared with each other that were
    drawn together.
    """
    generator, found = np.random.default_rng(SEED), []
    for group in range(int(groups.max()) + 1):
        members = np.flatnonzero(groups == group)
        parts = max(1, -(-len(members) // TESTED))
        for some in np.array_split(generator.permutation(members), parts):
            if len(some) >= FEWEST:
                level = rate * len(some) / len(groups) / 2.0
                found += _odd_among(data, np.sort(some).astype(np.intp), level, generator)
    return sorted(found, key=lambda one: one.row)


def _odd_among(
    data: ClassSubspaces, clients: IntArray, level: float, generator: np.random.Generator
) -> list[OddClient]:
    exchanged = exchanged_classes(data.bases[clients], data.seen[clients], level, generator)
    kernels = class_kernels(data.angles(clients), data.seen[clients])
    far = far_clients(kernels, len(clients), level, generator)
    return [
        OddClient(
            int(clients[place]),
            min(far.get(place, 1.0), exchanged.get(place, (1.0, ()))[0]),
            exchanged.get(place, (1.0, ()))[1],
        )
        for place in sorted(far.keys() | exchanged.keys())
    ]


def far_clients(
    kernels: list[ClassKernel], clients: int, level: float, generator: np.random.Generator
) -> dict[int, float]:
    """Find clients that are far from the others in all classes, with the chance of one as far.

    How far a client is from the others' centre in a class is its offset (`class_kernels`), of which
    the part that its size explains is taken out. The deviations of all classes are added up, and
    the largest sum is held against the largest after shuffling, class by class, among clients of
    like size. Who is found is left out, and the others are looked at again.
    """
    found: dict[int, float] = {}
    deviations = [_deviations(kernel) for kernel in kernels]
    while kernels and clients - len(found) >= FEWEST:
        sums = _sums(kernels, deviations, clients, list(found))
        farthest = int(sums.argmax())
        draw = partial(_farthest_by_chance, kernels, deviations, clients, generator)
        chance = p_value(float(sums[farthest]), draw, level)
        if chance > level:
            return found
        found[farthest] = chance
        deviations = [
            np.where(kernel.holders == farthest, 0.0, deviation)
            for kernel, deviation in zip(kernels, deviations, strict=True)
        ]
    return found


def _farthest_by_chance(
    kernels: list[ClassKernel],
    deviations: list[FloatArray],
    clients: int,
    generator: np.random.Generator,
) -> float:
    """Draw the largest sum of deviations that are shuffled among clients of like size."""
    dealt = [
        deviation[LikeSizes.of([kernel.sizes]).shuffled(generator)[0]]
        for kernel, deviation in zip(kernels, deviations, strict=True)
    ]
    return float(_sums(kernels, dealt, clients, []).max())


def _deviations(kernel: ClassKernel) -> FloatArray:
    """How much farther each holder (h,) is than its size explains, in robust deviations."""
    far = np.log(np.maximum(kernel.offsets, np.finfo(np.float32).eps * kernel.spread))
    sizes = np.log(kernel.sizes)
    features = np.stack([np.ones_like(sizes), sizes], axis=1)
    if np.ptp(sizes) == 0.0:
        features = features[:, :1]
    kept = np.ones(len(far), dtype=np.bool_)
    for _ in range(3):  # without those that are far, which would explain themselves
        line = np.linalg.lstsq(features[kept], far[kept], rcond=None)[0]
        rest = far - features @ line
        spread = ROBUST * float(np.median(np.abs(rest - np.median(rest))))
        kept = np.abs(rest) <= 3.0 * spread
    if spread == 0.0:
        return np.zeros_like(far)
    deviations: FloatArray = np.clip(rest / spread, -MOST, MOST)
    return deviations


def _sums(
    kernels: list[ClassKernel], deviations: list[FloatArray], clients: int, but: list[int]
) -> FloatArray:
    """Add up the deviations over a client's classes, over the root of their number (n,)."""
    sums, classes = np.zeros(clients), np.zeros(clients)
    for kernel, deviation in zip(kernels, deviations, strict=True):
        sums[kernel.holders] += deviation
        classes[kernel.holders] += 1.0
    sums /= np.sqrt(np.maximum(classes, 1.0))
    sums[but] = -np.inf
    return sums


def exchanged_classes(
    bases: npt.NDArray[np.float32],
    seen: IntArray,
    level: float,
    generator: np.random.Generator,
) -> dict[int, tuple[float, tuple[tuple[int, int], ...]]]:
    """Find clients two of whose classes look exchanged: chance and pairs of classes, by row.

    For each pair of classes that a client holds, its leading vectors are compared with the other
    clients' mean ones, as labelled and exchanged. The largest gain of an exchange that fits better
    is held against the largest among the others, shuffled class by class among clients of like
    size. And labels that were exchanged must be the likelier the more pairs of classes and clients
    there are: a gain as far above 0 as the median one of all clients lies below, but for chance. Of
    classes that look much alike nothing is told. Who is found is left out, and the others are
    looked at again. Of pairs that share a class the one that gains most is told.
    """
    found: dict[int, tuple[float, tuple[tuple[int, int], ...]]] = {}
    vectors = bases[:, :, 0].astype(np.float64)
    gains, pairs = Gains.of(vectors, seen), seen.shape[1] * (seen.shape[1] - 1) / 2
    likely = gains.log_likelihood_ratios() >= np.log(len(seen) * max(1.0, pairs) / level)
    likely &= gains.are_those_of_exchanges()
    observed = np.where(likely, gains.of_exchanges(), 0.0)
    while len(seen) - len(found) >= FEWEST:
        by_client = observed.max(axis=(1, 2))
        row = int(by_client.argmax())
        if by_client[row] <= 0.0:
            return found
        # With the client's own two vectors among them, one draw in ten would deal them together.
        others = np.setdiff1d(np.arange(len(seen)), [row, *found])
        honest = Gains.of(vectors[others], seen[others])
        chance = p_value(float(by_client[row]), honest.largest_by_chance(generator), level)
        if chance > level:
            return found
        told = sorted(
            (-observed[row, one, other], (int(one), int(other)))
            for one, other in zip(*np.nonzero(np.triu(observed[row])), strict=True)
        )
        found[row] = (chance, _without_overlap([pair for _, pair in told]))
        observed[row] = 0.0
    return found


def _without_overlap(told: list[tuple[int, int]]) -> tuple[tuple[int, int], ...]:
    """Keep pairs of classes in their order, none of which share a class."""
    kept: list[tuple[int, int]] = []
    for pair in told:
        if not {label for one in kept for label in one} & set(pair):
            kept.append(pair)
    return tuple(sorted(kept))


@dataclass(frozen=True, eq=False)
class Gains:
    """What n clients' leading vectors of C classes say of exchanges.

    `own` (C, n) is whose vector each client has of a class: itself, or who was dealt to it. Of the
    vectors v of client r there are the inner products with the weighted sums of each class,
    `to_sums` (C, n, C), and among all, `products` (C, n, C, n).
    """

    own: IntArray
    products: FloatArray
    to_sums: FloatArray
    weights: FloatArray  # (C, n), samples
    lengths: FloatArray  # (C, n), of the weighted sums without the client's vector
    middles: FloatArray  # (C, C), median gain of an exchange
    spreads: FloatArray  # (C, C), of gains times the root of how precise they are

    @classmethod
    def of(cls, vectors: FloatArray, seen: IntArray) -> Gains:
        """Take leading vectors (n, C, d) and samples of each class (n, C)."""
        number, classes, _ = vectors.shape
        first = np.take_along_axis(vectors, (seen > 0).argmax(axis=0)[None, :, None], axis=0)[0]
        signs = np.sign(np.einsum("ncd,cd->nc", vectors, first))
        turned = (vectors * signs[:, :, None]).swapaxes(0, 1).reshape(classes * number, -1)
        weights = np.ascontiguousarray(seen.T, dtype=np.float64)
        products = (turned @ turned.T).reshape(classes, number, classes, number)
        to_sums = np.einsum("crkj,kj->crk", products, weights)
        squares = np.einsum("cj,cjc->c", weights, to_sums)
        to_own = np.einsum("crc->cr", to_sums)
        lengths = np.sqrt(np.maximum(squares[:, None] - 2.0 * weights * to_own + weights**2, 0.0))
        own = np.tile(np.arange(number), (classes, 1))
        none = np.zeros((classes, classes))
        gains = cls(own, products, to_sums, weights, lengths, none, none)
        raw, precise = gains._raw(), gains._precise()
        with np.errstate(all="ignore"), warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # a pair that nobody holds has none
            middles = np.nanmedian(raw, axis=0)
            spreads = ROBUST * np.nanmedian(np.abs(raw - middles) * precise, axis=0)
        return replace(gains, middles=middles, spreads=spreads)

    def dealt(self, generator: np.random.Generator) -> Gains:
        """Give each client, class by class, the vector of one of like size."""
        own = np.empty_like(self.own)
        for label, sizes in enumerate(self.weights.astype(np.intp)):
            own[label] = LikeSizes.of([sizes]).shuffled(generator)[0]
        return replace(self, own=own)

    def largest_by_chance(self, generator: np.random.Generator) -> Callable[[], float]:
        """Return what draws the largest gain of an exchange after shuffling."""
        return lambda: float(self.dealt(generator).of_exchanges().max())

    def of_exchanges(self) -> FloatArray:
        """Gains (n, C, C) beyond the median one, in deviations; 0 where it fits better as it is."""
        raw = self._raw()
        usable = np.isfinite(raw) & (raw > 0.0) & (self.spreads > 0.0)
        away = np.divide(
            (raw - self.middles) * self._precise(),
            self.spreads,
            out=np.zeros_like(raw),
            where=usable,
        )
        return np.maximum(away, 0.0)

    def log_likelihood_ratios(self) -> FloatArray:
        """Compare exchanged with honest labels (n, C, C): normal, with means of opposite signs.

        The variance is that of the other clients, at least the robust one of all.
        """
        raw, precise = self._raw(), self._precise()
        away = np.square(np.nan_to_num((raw - self.middles) * precise))
        others = np.maximum(np.isfinite(raw).sum(axis=0) - 1, 1)
        spreads = np.maximum(np.square(self.spreads), (away.sum(axis=0) - away) / others)
        squares = np.square(precise) * np.maximum(-self.middles, 0.0)
        raw = np.nan_to_num(raw, nan=-1.0)
        ratios: FloatArray = np.divide(
            2.0 * raw * squares, spreads, out=np.full_like(raw, -np.inf), where=spreads > 0.0
        )
        return ratios

    def are_those_of_exchanges(self) -> npt.NDArray[np.bool_]:
        """Whether gains (n, C, C) are no less than exchanged labels have, but for chance."""
        with np.errstate(invalid="ignore"):
            short = -(self._raw() + self.middles) * self._precise()
            return np.nan_to_num(short, nan=np.inf) <= SHORT * self.spreads

    def _raw(self) -> FloatArray:
        """Squared cosines won by an exchange (n, C, C); NaN where a class is not held."""
        classes = np.arange(len(self.own))
        mine = self.own.T  # (n, C)
        held = np.take_along_axis(self.weights, self.own, axis=1).T  # (n, C)
        lengths = np.take_along_axis(self.lengths, self.own, axis=1).T
        inner = self.to_sums[classes, mine]  # (n, C, C): my vector of c with the sum of k
        among = self.products[classes[:, None], mine[:, :, None], classes, mine[:, None, :]]
        inner = inner - held[:, None, :] * among
        with np.errstate(divide="ignore", invalid="ignore"):
            cosines = (inner / lengths[:, None, :]) ** 2
        own = np.einsum("ncc->nc", cosines)
        raw: FloatArray = cosines + cosines.swapaxes(1, 2) - own[:, :, None] - own[:, None, :]
        usable = (held > 0.0) & (lengths > 0.0)
        raw[~(usable[:, :, None] & usable[:, None, :])] = np.nan
        return raw

    def _precise(self) -> FloatArray:
        """How precise a gain is (n, C, C): root of the harmonic mean of the samples it comes of."""
        held = np.maximum(np.take_along_axis(self.weights, self.own, axis=1).T, 1.0)
        precise: FloatArray = np.sqrt(1.0 / (1.0 / held[:, :, None] + 1.0 / held[:, None, :]))
        return precise

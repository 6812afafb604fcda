"""Splits of a dataset over clients: who gets how many samples of a class, and which.

Everything here follows from the class sizes, the settings and the seed, so that every process
derives the same split by itself. Only the table of counts (N clients, C classes) is common; a
client's own indices are slices of one seeded permutation a class. A dataset that does not suffice
raises a `DataError` that names the settings.
"""

import heapq
import math
from collections.abc import Sequence
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from feddag_flwr.data.samples import DataError
from feddag_flwr.seeds import derived_seed, generator

IntArray = NDArray[np.int64]
FloatArray = NDArray[np.float64]

_TRIES = 50


def largest_remainder(shares: FloatArray, total: int) -> IntArray:
    """Split `total` in proportion to `shares` by the method of the largest remainder.

    Shares need not add up to one; if all are zero they count as equal. Of equal remainders the
    first is served first.

    Examples
    --------
    >>> largest_remainder(np.array([0.5, 0.3, 0.2]), 7).tolist()
    [4, 2, 1]
    """
    whole = shares.sum()
    quotas = shares / whole * total if whole > 0 else np.full(len(shares), total / len(shares))
    counts: IntArray = np.floor(quotas).astype(np.int64)
    rest = total - int(counts.sum())
    counts[np.argsort(counts - quotas, kind="stable")[:rest]] += 1
    return counts


def classes_per_group(num_classes: int, label_skew: float) -> int:
    """Return rho % of the classes, rounded half up and at least one."""
    return max(1, math.floor(label_skew * num_classes / 100 + 0.5))


def deal_classes(num_classes: int, num_groups: int, per_group: int, seed: int) -> list[IntArray]:
    """Deal classes to groups: all of them once before any a second time, and so on.

    The class sets of the groups, each ascending, differ as far as seeded tries find it possible.
    """
    rng = generator(seed, "deal-classes")
    distinct = min(num_groups, math.comb(num_classes, per_group))
    best: list[IntArray] = []
    most = 0
    for _ in range(min(_TRIES, 1 + 5000 // num_groups)):
        dealt = _deal_once(num_classes, num_groups, per_group, rng)
        different = len({tuple(classes) for classes in dealt})
        if different > most:
            best, most = dealt, different
        if most == distinct:
            break
    return best


def _deal_once(
    num_classes: int, num_groups: int, per_group: int, rng: np.random.Generator
) -> list[IntArray]:
    times_dealt = np.zeros(num_classes, dtype=np.int64)
    dealt: list[IntArray] = []
    seen: set[tuple[int, ...]] = set()
    possible = math.comb(num_classes, per_group)
    for _ in range(num_groups):
        for _ in range(_TRIES):
            # the least dealt first, in random order among equals
            order = np.lexsort((rng.random(num_classes), times_dealt))
            classes = np.sort(order[:per_group])
            if len(seen) == possible or tuple(classes) not in seen:
                break
        times_dealt[classes] += 1
        seen.add(tuple(classes))
        dealt.append(classes)
    return dealt


def draw_class_pairs(num_classes: int, num_groups: int, seed: int) -> list[IntArray]:
    """Draw an ascending pair of classes for each group, all pairs different (B.10)."""
    pairs = list(combinations(range(num_classes), 2))
    if num_groups > len(pairs):
        raise DataError(
            f"client-groups = {num_groups}: scenario 'class-pairs' has {len(pairs)} pairs of the "
            f"{num_classes} classes"
        )
    drawn = generator(seed, "draw-class-pairs").choice(len(pairs), num_groups, replace=False)
    return [np.array(pairs[index], dtype=np.int64) for index in drawn]


def assign_groups(
    num_clients: int, num_groups: int, seed: int, *, purpose: str = "assign-groups"
) -> IntArray:
    """Return each client's group: a seeded shuffle, sizes that differ by one at most."""
    shuffled = generator(seed, purpose).permutation(num_clients)
    groups = np.empty(num_clients, dtype=np.int64)
    groups[shuffled] = np.arange(num_clients) % num_groups
    return groups


def label_skew_counts(
    class_counts: Sequence[int],
    class_names: Sequence[str],
    *,
    groups: IntArray,
    group_classes: Sequence[IntArray],
    alpha: float,
    floor: int,
    seed: int,
) -> IntArray:
    """Count the samples (N, C) of each client and class under scenario I.

    Each holder of a class, by the `groups` (N,) of clients and the `group_classes`, gets `floor`
    (setting ``min-class-samples``) of its samples; the rest go to the holders by shares drawn from
    a symmetric Dirichlet distribution of concentration `alpha` (``dirichlet-alpha``). Classes of no
    group stay unused.
    """
    holds = np.zeros((len(group_classes), len(class_counts)), dtype=bool)
    for group, classes in enumerate(group_classes):
        holds[group, classes] = True
    counts = np.zeros((len(groups), len(class_counts)), dtype=np.int64)
    for label in np.flatnonzero(holds.any(axis=0)).tolist():
        holders = np.flatnonzero(holds[groups, label])
        if not len(holders):  # more groups than clients
            continue
        rest = class_counts[label] - floor * len(holders)
        if rest < 0:
            raise DataError(
                f"class {class_names[label]!r} has {class_counts[label]} training samples, but "
                f"its {len(holders)} clients need min-class-samples = {floor} each "
                f"({floor * len(holders)}); lower min-class-samples or num-clients"
            )
        shares = generator(seed, f"share-class-{label}").dirichlet(np.full(len(holders), alpha))
        counts[holders, label] = floor + largest_remainder(shares, rest)
    return counts


def lda_counts(
    class_counts: Sequence[int], *, num_clients: int, alpha: float, floor: int, seed: int
) -> IntArray:
    """Count the samples (N, C) of each client and class under scenario III (Hsu et al. 2019).

    Client i draws class proportions q_i from Dirichlet(alpha' * class prior); the samples of class
    c are split over the clients in proportion to q_ic. A client left below `floor` samples in all
    (setting ``min-class-samples``) then takes the missing ones of the class that it favours
    (largest q_ic) from whoever has most of that class and more than `floor` in all, and so on with
    its next favoured class.
    """
    sizes = np.asarray(class_counts, dtype=np.int64)
    total = int(sizes.sum())
    if total < floor * num_clients:
        raise DataError(
            f"{total} training samples, but {num_clients} clients need min-class-samples = "
            f"{floor} each ({floor * num_clients}); lower min-class-samples or num-clients"
        )
    present = np.flatnonzero(sizes)
    favour = np.zeros((num_clients, len(sizes)))
    favour[:, present] = generator(seed, "lda-proportions").dirichlet(
        alpha * sizes[present] / total, size=num_clients
    )
    counts = np.zeros((num_clients, len(sizes)), dtype=np.int64)
    for label in present:
        counts[:, label] = largest_remainder(favour[:, label], int(sizes[label]))
    _lift_to_floor(counts, favour, floor)
    return counts


def domain_counts(
    sizes: IntArray,
    domain_names: Sequence[str],
    *,
    groups: IntArray,
    alpha: float,
    floor: int,
    seed: int,
) -> IntArray:
    """Count the samples (N, D * C) of each client, domain and class: `lda_counts` in each domain.

    `sizes` (D, C) are those of each domain and class, `groups` (N,) the domains of the clients.
    """
    counts = np.zeros((len(groups), *sizes.shape), dtype=np.int64)
    for domain, name in enumerate(domain_names):
        members = np.flatnonzero(groups == domain)
        try:
            counts[members, domain] = lda_counts(
                sizes[domain].tolist(),
                num_clients=len(members),
                alpha=alpha,
                floor=floor,
                seed=derived_seed(seed, f"domain-{name}"),
            )
        except DataError as error:
            raise error.of(f"domain {name!r}") from error
    return counts.reshape(len(groups), -1)


def _lift_to_floor(counts: IntArray, favour: FloatArray, floor: int) -> None:
    """Move samples in `counts`, in place, until every client has `floor` of them."""
    totals = counts.sum(axis=1)
    poor = np.flatnonzero(totals < floor)
    if not len(poor):
        return
    donors: list[list[tuple[int, int]]] = [[] for _ in range(counts.shape[1])]  # heaps, most first
    rich = np.flatnonzero(totals > floor)
    rows, labels = np.nonzero(counts[rich])
    for client, label in zip(rich[rows].tolist(), labels.tolist(), strict=True):
        donors[label].append((-int(counts[client, label]), client))
    for heap in donors:
        heapq.heapify(heap)
    for client in poor.tolist():
        for label in np.argsort(-favour[client], kind="stable").tolist():
            heap = donors[label]
            while heap and totals[client] < floor:
                held, donor = heapq.heappop(heap)
                moved = min(floor - totals[client], totals[donor] - floor, -held)
                counts[client, label] += moved
                counts[donor, label] -= moved
                totals[client] += moved
                totals[donor] -= moved
                if totals[donor] > floor and held + moved < 0:
                    heapq.heappush(heap, (held + moved, donor))


def client_indices(labels: IntArray, counts: IntArray, client: int, seed: int) -> IntArray:
    """Return the ascending indices of one client's samples: its slice of one permutation a class.

    `labels` (n,) are those of all training samples; `counts` (N, C) has a row for each client.
    """
    held = np.flatnonzero(counts[client])
    slices = [np.empty(0, dtype=np.int64)]
    for label, start in zip(held, counts[:client, held].sum(axis=0), strict=True):
        members = np.flatnonzero(labels == label)
        order = generator(seed, f"split-class-{label}").permutation(len(members))
        slices.append(members[order[start : start + counts[client, label]]])
    return np.sort(np.concatenate(slices))

"""Groups of clients, found by tests: who is parted is parted by evidence, one view at a time.

All clients are tested together: does any view show more than chance? If so they are parted by the
view that is surest, and each part is tested in its own right, until nothing is left to find
(hierarchical testing, Meinshausen 2008: the chance at which anybody is parted falsely is shared out
among the parts by their numbers of clients). See docs/fusion.md.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

import numpy as np

from feddag_flwr.similarity.class_conditional_view import ClassConditionalView
from feddag_flwr.similarity.class_subspaces import ClassSubspaces
from feddag_flwr.similarity.label_set_view import LabelSetView
from feddag_flwr.similarity.matrices import FloatArray, IntArray

FEWEST: Final = 4  # clients, of whom two and two may be groups
TESTED: Final = 200  # clients at most that are tested and parted; the others follow the nearest
SEED: Final = 0  # the same clients give the same tree in every run
LABEL_SET: Final = "label-set"
CLASS_CONDITIONAL: Final = "class-conditional"


@dataclass(frozen=True, eq=False)
class Part:
    """Clients that were tested together, and what came of it.

    Attributes
    ----------
    clients : int
        How many they are.
    chances : dict
        p-value of each view that can tell clients apart at all.
    level : float
        At or below which a view parts them.
    view : str
        The view that parted them; empty where none did.
    tested : ndarray, shape (n,)
        Rows of the clients that were tested, in the arrays that the tree was grown from.
    groups : ndarray, shape (n,)
        Child of each of them; empty where nothing was parted.
    children : tuple of Part
    """

    clients: int
    chances: dict[str, float]
    level: float
    view: str
    tested: IntArray
    groups: IntArray
    children: tuple[Part, ...]

    def partings(self) -> Iterator[Part]:
        """Yield it and all below that were parted."""
        if self.children:
            yield self
        for child in self.children:
            yield from child.partings()

    def leaves(self) -> Iterator[tuple[int, ...]]:
        """Yield the way to each leaf: the child taken at each parting."""
        if not self.children:
            yield ()
        for number, child in enumerate(self.children):
            for way in child.leaves():
                yield (number, *way)

    def notes(self) -> dict[str, Any]:
        """Return it as plain values for JSON, exact to the bit."""
        return {
            "clients": self.clients,
            "p-values": self.chances,
            "level": self.level,
            "view": self.view,
            "tested": self.tested.tolist(),
            "groups": self.groups.tolist(),
            "children": [child.notes() for child in self.children],
        }

    @classmethod
    def of_notes(cls, notes: Mapping[str, Any]) -> Part:
        """Make what `notes` wrote."""
        return cls(
            notes["clients"],
            dict(notes["p-values"]),
            notes["level"],
            notes["view"],
            np.array(notes["tested"], dtype=np.intp),
            np.array(notes["groups"], dtype=np.intp),
            tuple(cls.of_notes(child) for child in notes["children"]),
        )


@dataclass(frozen=True, eq=False)
class GroupTree:
    """The tree of tests on N clients; its leaves are the groups."""

    root: Part

    @classmethod
    def grow(cls, data: ClassSubspaces, false_positive_rate: float) -> tuple[GroupTree, IntArray]:
        """Test and part N clients; returned with the tree is the leaf of each (N,).

        `false_positive_rate` is the chance at which clients of one kind are parted.
        """
        number = len(data.counts)
        labels = np.zeros(number, dtype=np.intp)
        generator = np.random.default_rng(SEED)
        next_leaf = 0

        def grown(clients: IntArray) -> Part:
            nonlocal next_leaf
            rate = false_positive_rate * len(clients) / number
            part, groups = _tested(data, clients, rate, generator)
            if groups is None:
                labels[clients] = next_leaf
                next_leaf += 1
                return part
            children = [grown(clients[groups == group]) for group in range(int(groups.max()) + 1)]
            return Part(**{**vars(part), "children": tuple(children)})

        return cls(grown(np.arange(number))), labels

    @cached_property
    def ways(self) -> list[tuple[int, ...]]:
        """The way from the root to each leaf, in the order of leaves."""
        return list(self.root.leaves())

    @cached_property
    def heights(self) -> FloatArray:
        """How far apart leaves are (L, L), in [0, 1]: an ultrametric, the later parted the less.

        1 for those that the first test parted; 0 for a leaf and itself.
        """
        deepest = max(len(way) for way in self.ways)
        heights = np.zeros((len(self.ways), len(self.ways)))
        for one, left in enumerate(self.ways):
            for other, right in enumerate(self.ways):
                if one != other:
                    together = next(
                        depth for depth in range(deepest) if left[depth] != right[depth]
                    )
                    heights[one, other] = (deepest - together) / deepest
        return heights

    def place(self, founders: ClassSubspaces, others: ClassSubspaces) -> IntArray:
        """Find the leaf of others (M,), each by itself: at each parting they take the nearer side.

        `founders` are the clients that the tree was grown from.
        """
        leaves = np.zeros(len(others.counts), dtype=np.intp)
        numbers = {way: leaf for leaf, way in enumerate(self.ways)}

        def descend(part: Part, way: tuple[int, ...], rows: IntArray) -> None:
            if not part.children:
                leaves[rows] = numbers[way]
                return
            groups = _placed(founders, part, others, rows)
            for number, child in enumerate(part.children):
                if (below := rows[groups == number]).size:
                    descend(child, (*way, number), below)

        descend(self.root, (), np.arange(len(others.counts)))
        return leaves


def _tested(
    data: ClassSubspaces, clients: IntArray, rate: float, generator: np.random.Generator
) -> tuple[Part, IntArray | None]:
    """Test some clients; their groups (n,), numbered from 0, where they are parted."""
    tested = clients
    if len(clients) > TESTED:
        tested = np.sort(generator.choice(clients, TESTED, replace=False))
    none = np.zeros(0, dtype=np.intp)
    if len(clients) < FEWEST:
        return Part(len(clients), {}, rate, "", none, none, ()), None
    views: dict[str, LabelSetView | ClassConditionalView] = {
        LABEL_SET: LabelSetView(data.counts[tested] > 0),
        CLASS_CONDITIONAL: ClassConditionalView.of(data.angles(tested), data.seen[tested]),
    }
    telling = {name: view for name, view in views.items() if view.can_tell}
    level = rate / max(1, len(telling))
    chances = {name: view.test(level, generator) for name, view in telling.items()}
    view = min(chances, key=chances.__getitem__, default="")
    groups = None
    if view and chances[view] <= level:
        groups = telling[view].split(generator)
    if groups is None or not groups.any():
        return Part(len(clients), chances, level, "", none, none, ()), None
    part = Part(len(clients), chances, level, view, tested, groups, ())
    if len(tested) == len(clients):
        return part, groups
    of_all = np.empty(len(clients), dtype=np.intp)
    among_tested = np.isin(clients, tested)
    of_all[among_tested] = groups
    of_all[~among_tested] = _placed(data, part, data, clients[~among_tested])
    return part, of_all


def _placed(
    founders: ClassSubspaces, part: Part, others: ClassSubspaces, rows: IntArray
) -> IntArray:
    """Child of a part (m,) for some of the others."""
    if part.view == LABEL_SET:
        return LabelSetView(founders.counts[part.tested] > 0).place(
            others.counts[rows], part.groups
        )
    view = ClassConditionalView.of(founders.angles(part.tested), founders.seen[part.tested])
    angles = others.angles_between(rows, founders, part.tested)
    return view.place(angles, others.seen[rows], part.groups)

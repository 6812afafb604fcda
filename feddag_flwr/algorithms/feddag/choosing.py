"""Into which parts clients may be parted: proposed by what they train, chosen by themselves."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations
from typing import Final

import numpy as np

from feddag_flwr.algorithms.feddag.held_back import Answer, Panel, gains_under
from feddag_flwr.clustering.refinement import (
    chance_of_common_gain,
    proposed_parts,
    sufficient_parts,
    trimmed_mean,
)
from feddag_flwr.similarity.matrices import FloatArray

# The part of each client, as its members that have trained.
Parts = Mapping[str, tuple[str, ...]]

STEPS: Final = 4  # times that clients choose among the parts that are proposed
LIKELY: Final = 0.05  # chance of a gain up to which it is likely, where it need not be certain


class Choosing:
    """Clients choose among parts of theirs, which are made anew of who chose them.

    They choose by what they lose on training data: so held-back data can judge.
    """

    def __init__(self, panel: Panel, members: Sequence[str], proposals: Iterable[Parts]) -> None:
        there = set(panel.names)
        self._panel = panel
        self._members = [name for name in members if name in there]
        self._proposals = proposals

    def run(self) -> Parts:
        """Let clients choose until nobody chooses otherwise, `STEPS` times at most.

        Of the partitions proposed and chosen one is returned, by what they lose on training data:
        see `sufficient`. None, where there are only such of one part.
        """
        found: list[tuple[Parts, Mapping[str, float]]] = []
        partitions = list(self._proposals)
        for _ in range(STEPS + 1):
            answers = self._asked(partitions)
            for parts in partitions:
                judges = [n for n in parts if n in answers and parts[n] in answers[n].places]
                found.append((parts, {n: answers[n].loss(parts[n]) for n in judges}))
            known = [parts for parts, _ in found]
            chosen = [self._chosen(parts, answers) for parts in partitions]
            partitions = _distinct(parts for parts in chosen if parts not in known)
            if not partitions:
                break
        several = [pair for pair in found if len(set(pair[0].values())) > 1 and not _lone(pair[0])]
        return sufficient(several) if several else {}

    def _asked(self, partitions: Iterable[Parts]) -> dict[str, Answer]:
        choices = sorted({part for parts in partitions for part in parts.values()})
        return self._panel.ask(dict.fromkeys(self._members, choices), trained_on=True)

    def _chosen(self, parts: Parts, answers: Mapping[str, Answer]) -> Parts:
        """Take the part of lowest loss each; a part that one client alone has trained is none."""
        trained, left = self._panel.trained.replies, sorted(set(parts.values()))
        while True:
            chosen = {name: _best(answer, left) for name, answer in answers.items()}
            sizes = Counter(part for name, part in chosen.items() if name in trained)
            lone = [part for part in left if sizes[part] < 2]
            if not lone or len(left) == 1:
                break
            left.remove(min(lone, key=lambda part: (sizes[part], part)))
        members = {
            part: tuple(sorted(n for n, p in chosen.items() if p == part and n in trained))
            for part in left
        }
        return {name: members[part] for name, part in chosen.items() if part and members[part]}


def joined(panel: Panel, parts: Parts) -> Parts:
    """Join two parts at a time whose members hardly gain by being apart; two are left."""
    while len(left := sorted(set(parts.values()))) > 2:
        joints = {pair: tuple(sorted(pair[0] + pair[1])) for pair in combinations(left, 2)}
        answers = panel.ask(
            {
                name: [part, *(joint for pair, joint in joints.items() if part in pair)]
                for name, part in parts.items()
            }
        )
        chances = {}
        for pair, joint in joints.items():
            judges = [name for name in answers if parts[name] in pair]
            gains = gains_under(answers, {name: (joint, parts[name]) for name in judges})
            chances[pair] = chance_of_common_gain(gains)
        likest = max(chances, key=chances.__getitem__)
        if chances[likest] <= LIKELY:
            break
        parts = {name: joints[likest] if part in likest else part for name, part in parts.items()}
    return parts


def _best(answer: Answer, parts: Sequence[tuple[str, ...]]) -> tuple[str, ...]:
    """Return the part of lowest loss; none where there is no mean without the client itself."""
    judged = [part for part in parts if part in answer.places]
    return min(judged, key=answer.loss) if judged else ()


def parts_of(panel: Panel, names: tuple[str, ...], numbers: Iterable[int]) -> list[Parts]:
    """Propose partitions of clients that have trained, into so many parts each."""
    possible = [number for number in numbers if number <= len(names) // 2]
    if not possible:
        return []
    updates = panel.trained.updates(names, panel.trained.parts[0])
    proposals: list[Parts] = []
    for number, labels in proposed_parts(updates, possible).items():
        members = [
            tuple(n for n, z in zip(names, labels, strict=True) if z == part)
            for part in range(number)
        ]
        proposals.append({name: members[z] for name, z in zip(names, labels, strict=True)})
    return proposals


def _lone(parts: Parts) -> bool:
    """Tell whether one client alone has trained some part."""
    return min(map(len, parts.values())) < 2


def sufficient(partitions: Sequence[tuple[Parts, Mapping[str, float]]]) -> Parts:
    """Return the partition of fewest parts than which none of more parts is likely better.

    Of those of as many parts it is the one of lowest mean loss, the first of equal ones. What
    counts is what clients lose that have judged all of them.
    """
    judges = [n for n in partitions[0][1] if all(n in of for _, of in partitions)]
    best: dict[int, tuple[float, Parts, FloatArray]] = {}
    for parts, of in partitions:
        losses = np.array([of[name] for name in judges])
        number, mean = len(set(parts.values())), trimmed_mean(losses)
        if number not in best or mean < best[number][0]:
            best[number] = (mean, parts, losses)
    number = sufficient_parts({number: losses for number, (_, _, losses) in best.items()}, LIKELY)
    return best[number][1]


def _distinct(partitions: Iterable[Parts]) -> list[Parts]:
    """Keep the first of those that are the same."""
    kept: list[Parts] = []
    for parts in partitions:
        if parts and parts not in kept:
            kept.append(parts)
    return kept


def _best_of(partitions: Sequence[tuple[Parts, Mapping[str, float]]]) -> Parts:
    """Return the partition of lowest mean loss over the clients that have judged all of them."""
    judges = [
        name
        for name in (partitions[0][1] if partitions else ())
        if all(name in losses for _, losses in partitions)
    ]
    means = [trimmed_mean(np.array([of[name] for name in judges])) for _, of in partitions]
    return partitions[int(np.argmin(means))][0] if partitions else {}

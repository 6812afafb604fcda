"""Into which parts clients are parted: judged on what they hold back, corrected by themselves."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np

from feddag_flwr.algorithms.feddag.held_back import Answer, Choice, Panel, gains_under
from feddag_flwr.clustering.refinement import (
    LIKELY,
    Gains,
    is_certain,
    is_likely,
    trimmed_mean,
)

# The part of each client, as its members that have trained.
Parts = Mapping[str, tuple[str, ...]]

STEPS: Final = 4  # times that clients choose among parts


def better_parts(
    panel: Panel,
    now: Mapping[str, Choice],
    drafted: Mapping[str, Choice],
    proposals: Sequence[Parts],
    level: float,
) -> Parts:
    """Return parts under which clients lose less for certain than under what they have, or none.

    Proposals come from updates, and what a client has trained itself is left out of what it judges.
    If members of one cluster are all of one kind and losses are convex, a mean of all of them loses
    no more than the means of parts do on the mean, whatever the luck of the training: the mean gain
    is 0 at most. That it is more is certain at a proposal's share of the level; most members of
    each part must gain, or a few that lose much might be trimmed away. Of clusters that are all
    parted anew it is certain at that level that members gain under these very models.

    Only proposals count for that. What clients choose for themselves suits them by luck, too; it
    may correct a proposal. Of proposals that are likely better, the clearest is taken (they come in
    that order), or one that is likely better still. If something else has been `drafted`, that is
    no less certain; so the better of both is taken: proposals must suit clients better than it.
    """
    answers = panel.ask(
        {n: [now[n], drafted[n], *(p[n] for p in proposals if n in p)] for n in now}
    )
    share = level / len(proposals)
    if not any(_are_better(answers, now, parts, share) for parts in proposals):
        return {}
    best: Parts = {}
    for parts in proposals:
        likely = _are_better(answers, now, parts, LIKELY) and _suit(answers, drafted, parts)
        if likely and (not best or is_likely(_gains(answers, best, parts))):
            best = parts
    return _corrected(panel, best, list(now)) if best else {}


def _are_better(
    answers: Mapping[str, Answer], now: Mapping[str, Choice], parts: Parts, level: float
) -> bool:
    """Tell whether parts suit clients better than what they have, for certain at a level."""
    return _suit(answers, now, parts) and is_certain(_gains(answers, now, parts), level)


def _suit(answers: Mapping[str, Answer], now: Mapping[str, Choice], parts: Parts) -> bool:
    """Tell whether clients gain by parts on the mean, and most members of each part do."""
    of_each = [
        _gains(answers, now, {name: part for name, part in parts.items() if part == which}).values
        for which in set(parts.values())
    ]
    most = all(np.median(gains) > 0.0 for gains in of_each if len(gains))
    return most and trimmed_mean(_gains(answers, now, parts).values) > 0.0


def _corrected(panel: Panel, proposed: Parts, names: Sequence[str]) -> Parts:
    """Let clients choose among the parts proposed, and take what they chose if it is better.

    They choose by what they lose on training data, until nobody chooses otherwise, `STEPS` times at
    most; parts are made anew of who chose them. Else who has not trained goes where it chose first.
    """
    first = answers = _asked(panel, proposed, names)
    chosen = _chosen(panel, proposed, answers)
    for _ in range(STEPS - 1):
        answers = _asked(panel, chosen, names)
        if (again := _chosen(panel, chosen, answers)) == chosen:
            break
        chosen = again
    both = [name for name in names if name in proposed and name in chosen]
    judged = panel.ask({name: [proposed[name], chosen[name]] for name in both})
    gains = _gains(judged, proposed, chosen).values
    if len(set(chosen.values())) > 1 and trimmed_mean(gains) > 0.0:
        return chosen
    parts = sorted(set(proposed.values()))
    others = {n: part for n in first if n not in proposed and (part := _best(first[n], parts))}
    return {**proposed, **others}


def _asked(panel: Panel, parts: Parts, names: Sequence[str]) -> dict[str, Answer]:
    choices = sorted(set(parts.values()))
    return panel.ask(dict.fromkeys(names, choices), trained_on=True)


def _chosen(panel: Panel, parts: Parts, answers: Mapping[str, Answer]) -> Parts:
    """Take the part of lowest loss each; a part that one client alone has trained is none."""
    trained, left = panel.trained.replies, sorted(set(parts.values()))
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


def _best(answer: Answer, parts: Sequence[tuple[str, ...]]) -> tuple[str, ...]:
    """Return the part of lowest loss; none where there is no mean without the client itself."""
    judged = [part for part in parts if part in answer.places]
    return min(judged, key=answer.loss) if judged else ()


def _gains(
    answers: Mapping[str, Answer], one: Mapping[str, Choice], other: Mapping[str, Choice]
) -> Gains:
    """Return what clients gain whose model differs.

    That of the others stays: they gain nothing, and this says nothing of those who change.
    """
    names = [n for n in answers if n in one and n in other and one[n] != other[n]]
    return gains_under(answers, {name: (one[name], other[name]) for name in names})

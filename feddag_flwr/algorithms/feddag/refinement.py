"""Clusters confirmed and refined while they train, by what clients lose on held-back data."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from feddag_flwr.algorithms.feddag.held_back import Answer, Choice, Panel
from feddag_flwr.algorithms.feddag.training_from_one import mean_model, trained_from_one
from feddag_flwr.clustering.refinement import (
    chance_of_common_gain,
    chance_of_gain,
    level_of_check,
    nested_groups,
    outermost,
    proposed_parts,
    sufficient_parts,
    trimmed_mean,
)
from feddag_flwr.federation.context import FederationContext
from feddag_flwr.records import Model
from feddag_flwr.similarity.matrices import FloatArray

logger = logging.getLogger("flwr")

# The part of each client, as its members that have trained.
Parts = Mapping[str, tuple[str, ...]]

KINDS: Final = 4  # of changes, which share a check's chance of an error
PARTS: Final = (2, 3, 5)  # into so many a cluster, or all, may be parted at a time
STEPS: Final = 4  # times that clients choose among the parts that are proposed
LIKELY: Final = 0.05  # chance of a gain up to which it is likely, where it need not be certain
NEAREST: Final = 9  # other clusters that a client compares with its own
MOST_CHANGES: Final = 5  # times that a client may change cluster, each at half the chance


class Change(NamedTuple):
    """One change: its kind, the clusters before and after, and what clients lose on the mean.

    `clients` counts those of each cluster afterwards, but before a merge; `name` is who moves.
    """

    kind: str
    before: tuple[int, ...]
    after: tuple[int, ...]
    clients: tuple[int, ...]
    name: str = ""
    losses: tuple[float, float] = (0.0, 0.0)

    def notes(self) -> dict[str, Any]:
        """Return it as plain values."""
        notes: dict[str, Any] = {
            "kind": self.kind,
            "from": list(self.before),
            "to": list(self.after),
            "clients": list(self.clients),
            "loss-before": self.losses[0],
            "loss-after": self.losses[1],
        }
        return notes | ({"client": self.name} if self.name else {})

    def __str__(self) -> str:
        losses = "{:.3f} -> {:.3f}".format(*self.losses)
        if self.kind == "move":
            return f"{self.name} moved {self.before[0]} -> {self.after[0]} ({losses})"
        counts = " and ".join(str(count) for count in self.clients)
        clusters = f"clusters {', '.join(map(str, self.before))}"
        if self.kind == "split":
            what = f"cluster {self.before[0]} split in {len(self.after)}"
        elif self.kind == "merge":
            what = f"{clusters} merged into {self.after[0]}"
        else:
            what = f"{clusters} regrouped into {', '.join(map(str, self.after))}"
        return f"{what} ({counts} clients), held-back loss {losses}"


@dataclass
class Draft:
    """Clusters as a check would have them.

    Attributes
    ----------
    assignments : dict of str to int
        Cluster of each client.
    choices : dict of str to Choice
        What each client is judged by: its cluster as it is drafted, without itself.
    clusters : int
        How many there are, those that nobody is in among them.
    changes : list of Change
    changed : set of int
        Clusters that are no longer as clients have judged them.
    """

    assignments: dict[str, int]
    choices: dict[str, Choice]
    clusters: int
    changes: list[Change] = field(default_factory=list)
    changed: set[int] = field(default_factory=set)
    models: list[Model] = field(default_factory=list)

    @property
    def regrouped(self) -> bool:
        """Whether clusters have been made anew, not clients moved alone."""
        return any(change.kind != "move" for change in self.changes)

    def members(self, clusters: Collection[int]) -> list[str]:
        """Return who is in one of some clusters."""
        return [name for name, cluster in self.assignments.items() if cluster in clusters]

    def join(self, group: tuple[int, ...], joint: tuple[str, ...]) -> tuple[int, ...]:
        """Make several clusters the first of them; return how many clients each had."""
        names = self.members(group)
        sizes = Counter(self.assignments[name] for name in names)
        self.assignments |= dict.fromkeys(names, group[0])
        self.choices |= {name: joint for name in names if name in self.choices}
        self.changed |= set(group)
        return tuple(sizes[cluster] for cluster in group)

    def part(self, group: Collection[int], parts: Parts) -> tuple[int, ...]:
        """Let parts be in the place of some clusters; return their numbers, the largest first.

        A part has the number of the cluster that most of it comes from, if that is free. Who is in
        no part goes where most of its cluster have gone.
        """
        names, sizes = self.members(group), Counter(parts.values())
        ordered = sorted(sizes, key=lambda part: (-sizes[part], part))
        overlap = Counter((parts[n], self.assignments[n]) for n in names if n in parts)
        numbers: dict[tuple[str, ...], int] = {}
        for part, cluster in sorted(overlap, key=lambda pair: (-overlap[pair], pair)):
            if part not in numbers and cluster not in numbers.values():
                numbers[part] = cluster
        free = self._free_numbers(group, numbers.values())
        for part in ordered:
            if part not in numbers:
                numbers[part] = next(free)
        largest = {
            cluster: max(ordered, key=lambda part: overlap[part, cluster]) for cluster in group
        }
        placed = {n: parts.get(n, largest[self.assignments[n]]) for n in names}
        self.assignments |= {name: numbers[part] for name, part in placed.items()}
        self.choices |= {name: part for name, part in parts.items() if name in self.choices}
        self.changed |= {*group, *numbers.values()}
        return tuple(numbers[part] for part in ordered)

    def _free_numbers(self, group: Collection[int], used: Collection[int]) -> Iterator[int]:
        """Yield numbers of clusters that nobody is in or that are parted, then new ones."""
        elsewhere = set(self.assignments.values()) | self.changed
        taken = (elsewhere - set(group)) | set(used)
        yield from [number for number in range(self.clusters) if number not in taken]
        while True:
            self.clusters += 1
            yield self.clusters - 1


class Refiner:
    """Checks a clustering every ``refine-every`` rounds, and says how it should be changed.

    For a check clients train once from one model, the mean of all clusters'. Each then says on
    held-back data what it loses under the mean of what its cluster has trained, and under means of
    other clusters, of clusters that may merge, of parts into which its cluster or all clients may
    be parted. What a client has trained itself is left out of what it judges its own by.
    """

    def __init__(self, context: FederationContext) -> None:
        self._context = context
        self._checks = 0
        self._last = 0
        self._moved: Counter[str] = Counter()
        self._likely: set[tuple[int, ...]] = set()  # groups that may merge at the next check
        self.history: list[dict[str, Any]] = []

    @property
    def _rate(self) -> float:
        return self._context.settings.similarity.false_positive_rate

    def due(self, server_round: int) -> bool:
        """Tell whether a round ends with a check."""
        every = self._context.settings.clustering.refine_every
        return bool(every) and server_round - self._last >= every

    # -- a check -----------------------------------------------------------------------------------

    def check(self, server_round: int) -> Draft:
        """Ask all clients, and draft what follows from their answers."""
        self._checks += 1
        self._last = server_round
        base, trained = trained_from_one(self._context, server_round)
        panel = Panel(self._context, server_round, base, trained)
        questions = Questions.of(panel, self._context.state.assignments)
        answers = panel.ask({name: questions.choices(name) for name in panel.names})
        # One cluster can but split.
        kinds = KINDS if len(set(self._context.state.assignments.values())) > 1 else 1
        level = level_of_check(self._rate, self._checks) / kinds
        draft = self._draft(questions)
        self._merge(draft, questions, answers, level)
        self._split(draft, panel, level)
        draft = self._regrouped(draft, panel, questions, level)
        self._move(draft, questions, answers, level)
        self._start_anew(draft, panel, questions)
        self._note(draft)
        return draft

    def _draft(self, questions: Questions) -> Draft:
        """Return clusters as they are."""
        state = self._context.state
        return Draft(dict(state.assignments), dict(questions.own), len(state.models))

    def _note(self, draft: Draft) -> None:
        for name, cluster in draft.assignments.items():
            before = self._context.state.assignments[name]
            self._moved[name] += cluster != before or cluster in draft.changed
        if draft.changes:
            told = "; ".join(str(change) for change in draft.changes)
            logger.info("refined at round %d: %s", self._last, told)
        else:
            logger.info("clusters confirmed at round %d: nobody moves", self._last)
        notes = [change.notes() for change in draft.changes]
        self.history.append({"round": self._last, "changes": notes})

    def _halved(self, level: float, names: Collection[str]) -> float:
        """Halve a level as often as each of some clients has changed cluster; 0 in the end."""
        least = min((self._moved[name] for name in names), default=0)
        return level / 2**least if least < MOST_CHANGES else 0.0

    # -- merging -----------------------------------------------------------------------------------

    def _merge(
        self, draft: Draft, questions: Questions, answers: Mapping[str, Answer], level: float
    ) -> None:
        """Merge clusters whose members lose less under a mean of what all of them have trained.

        Where that is likely, and so of most members of each, the next check decides: if it is so
        again, they merge.
        """
        likely, supported = set(), []
        for group, joint in questions.joints.items():
            pairs = {n: (questions.own[n], joint) for n in answers if draft.assignments[n] in group}
            of_each = [
                _gains(answers, {n: pairs[n] for n in pairs if draft.assignments[n] == cluster})
                for cluster in group
            ]
            if not all(len(gains) and np.median(gains) > 0.0 for gains in of_each):
                continue
            chance = chance_of_common_gain(np.concatenate(of_each))
            halved = self._halved(level / len(questions.joints), pairs)
            again = chance <= LIKELY and group in self._likely
            if chance <= LIKELY:
                likely.add(group)
            if halved > 0.0 and (chance <= halved or again):
                supported.append(group)
        self._likely = likely
        for group in outermost(supported):
            sizes = draft.join(group, questions.joints[group])
            draft.changes.append(Change("merge", group, group[:1], sizes))

    # -- parting -----------------------------------------------------------------------------------

    def _split(self, draft: Draft, panel: Panel, level: float) -> None:
        """Split clusters whose members lose less under what a part of them has trained."""
        everybody = len(draft.assignments)
        for cluster in sorted(set(draft.assignments.values()) - draft.changed):
            members = draft.members([cluster])
            of_cluster = self._halved(level * len(members) / everybody, members)
            parts = self._better(panel, draft, members, PARTS, of_cluster)
            if len(set(parts.values())) > 1:
                self._part(draft, (cluster,), parts, "split")

    def _regrouped(self, draft: Draft, panel: Panel, questions: Questions, level: float) -> Draft:
        """Part all clients anew, where that is better for certain than what has been drafted."""
        now = sorted(set(self._context.state.assignments.values()))
        if len(now) < 2:
            return draft
        numbers = sorted({PARTS[-1], len(now)})
        halved = self._halved(level, draft.assignments)
        parts = self._better(panel, draft, list(draft.assignments), numbers, halved)
        if not parts:
            return draft
        anew = self._draft(questions)
        self._part(anew, tuple(now), parts, "regroup")
        return anew

    @staticmethod
    def _part(draft: Draft, group: tuple[int, ...], parts: Parts, kind: str) -> None:
        numbers = draft.part(group, parts)
        sizes = Counter(draft.assignments.values())
        draft.changes.append(Change(kind, group, numbers, tuple(sizes[z] for z in numbers)))

    def _better(
        self,
        panel: Panel,
        draft: Draft,
        members: Sequence[str],
        numbers: Sequence[int],
        level: float,
    ) -> Parts:
        """Find parts under which members lose less for certain than as drafted, or none."""
        trained = tuple(sorted(set(members) & panel.trained.replies.keys()))
        proposals = parts_of(panel, trained, numbers)
        if not proposals or level <= 0.0:
            return {}
        parts = Choosing(panel, members, proposals).run()
        asked = [name for name in parts if name in draft.choices]
        answers = panel.ask({name: [draft.choices[name], parts[name]] for name in asked})
        gains = _gains(answers, {name: (draft.choices[name], parts[name]) for name in answers})
        return joined(panel, parts) if chance_of_common_gain(gains) <= level else {}

    # -- moving ------------------------------------------------------------------------------------

    def _move(
        self, draft: Draft, questions: Questions, answers: Mapping[str, Answer], level: float
    ) -> None:
        """Move clients that lose less, for certain, under another cluster's model."""
        for name, answer in answers.items():
            cluster, own = draft.assignments[name], questions.own[name]
            others = {
                choice: z
                for z, choice in questions.others(name).items()
                if z not in draft.changed and choice in answer.places
            }
            if cluster in draft.changed or not others:
                continue
            best = min(others, key=answer.loss)
            gain, variance = answer.gain(own, best)
            needed = self._halved(level / (len(draft.assignments) * len(others)), [name])
            if chance_of_gain(gain, variance, answer.losses.freedom) <= needed:
                losses = (answer.loss(own), answer.loss(best))
                draft.assignments[name] = others[best]
                draft.changes.append(
                    Change("move", (cluster,), (others[best],), (1,), name, losses)
                )

    # -- what changed clusters start from ----------------------------------------------------------

    def _start_anew(self, draft: Draft, panel: Panel, questions: Questions) -> None:
        """Give changed clusters a model, and say what their members gain.

        It is the better for them of two: the mean of the models that they had, and the mean of what
        they have trained for the check.
        """
        draft.models = [*self._context.state.models, *({} for _ in range(draft.clusters))]
        draft.models = draft.models[: draft.clusters]
        of_cluster = {
            z: draft.members([z]) for z in sorted(draft.changed & set(draft.assignments.values()))
        }
        joints, places = {}, {}
        for cluster, members in of_cluster.items():
            joints[cluster] = tuple(sorted(set(members) & panel.trained.replies.keys()))
            places[cluster] = panel.add(mean_model(self._context.state, members))
        choices = {
            name: [questions.own[name], places[cluster], *filter(None, [joints[cluster]])]
            for cluster, members in of_cluster.items()
            for name in members
            if name in questions.own
        }
        answers = panel.ask(choices) if choices else {}
        for cluster, members in of_cluster.items():
            pairs = {n: (places[cluster], joints[cluster]) for n in members if n in answers}
            model = panel.models[places[cluster]]
            if panel.trains_encoder and trimmed_mean(_gains(answers, pairs)) > 0.0:
                model = model | self._aggregated(panel, joints[cluster])
            draft.models[cluster] = model
        draft.changes = [
            self._with_losses(change, draft, answers, questions, joints) for change in draft.changes
        ]

    @staticmethod
    def _with_losses(
        change: Change,
        draft: Draft,
        answers: Mapping[str, Answer],
        questions: Questions,
        joints: Mapping[int, Choice],
    ) -> Change:
        """Say what members lose as they were grouped before, and as they are now."""
        if change.kind == "move":
            return change
        pairs = {
            name: (questions.own[name], joints[draft.assignments[name]])
            for name in draft.members(change.after)
            if name in answers
        }
        told = _losses(answers, pairs)
        return change._replace(losses=(float(told[0].mean()), float(told[1].mean())))

    def _aggregated(self, panel: Panel, members: tuple[str, ...]) -> Model:
        """Aggregate what some clients have trained, as the members of a cluster."""
        replies = [panel.trained.replies[name] for name in members]
        samples = [reply.samples for reply in replies]
        aggregate = self._context.aggregator.aggregate
        made = {
            part: aggregate([reply.parts[part] for reply in replies], samples, panel.base[part])
            for part in panel.trained.parts
        }
        return {part: weights for part, weights in made.items() if weights.is_finite}

    # -- what a checkpoint keeps -------------------------------------------------------------------

    def notes(self) -> dict[str, Any]:
        """Return all that the next checks need."""
        return {
            "checks": self._checks,
            "last": self._last,
            "moved": {name: count for name, count in sorted(self._moved.items()) if count},
            "likely": sorted(self._likely),
            "history": self.history,
        }

    def load(self, notes: Mapping[str, Any]) -> None:
        """Take over what `notes` returned."""
        self._checks, self._last = notes["checks"], notes["last"]
        self._moved, self.history = Counter(notes["moved"]), list(notes["history"])
        self._likely = {tuple(group) for group in notes["likely"]}


@dataclass(frozen=True, eq=False)
class Questions:
    """What clients are asked first.

    Attributes
    ----------
    own : dict of str to Choice
        A client's own model.
    nearest : dict of int to list of int
        Clusters that members of one compare with theirs: those that have trained most alike.
    joints : dict of tuple to tuple
        Clusters that may merge, and who has trained in them.
    founders : mapping of int to tuple
        Who has trained, of each cluster.
    """

    own: dict[str, Choice]
    nearest: dict[int, list[int]]
    joints: dict[tuple[int, ...], tuple[str, ...]]
    founders: Mapping[int, tuple[str, ...]]
    assignments: Mapping[str, int]

    @classmethod
    def of(cls, panel: Panel, assignments: Mapping[str, int]) -> Questions:
        """Draw them up from what has been trained."""
        trained = [z for z in sorted(set(assignments.values())) if panel.founders[z]]
        own = {name: panel.own(name) for name in panel.names}
        if len(trained) < 2:
            return cls(own, {}, {}, panel.founders, assignments)
        vectors = np.stack([_vector(panel, panel.founders[z]) for z in trained])
        nearest = {}
        for row, cluster in enumerate(trained):
            order = np.argsort(np.linalg.norm(vectors - vectors[row], axis=1), kind="stable")
            nearest[cluster] = [trained[i] for i in order if i != row][:NEAREST]
        groups = [tuple(trained[i] for i in group) for group in nested_groups(vectors)]
        joints = {
            group: tuple(sorted(n for z in group for n in panel.founders[z])) for group in groups
        }
        return cls(own, nearest, joints, panel.founders, assignments)

    def others(self, name: str) -> dict[int, Choice]:
        """Return other clusters' models for a client, by cluster.

        Who is alone in a cluster has its present model, and compares it with present ones.
        """
        near = self.nearest.get(self.assignments[name], [])
        alone = isinstance(self.own[name], int)
        return {z: z if alone else self.founders[z] for z in near}

    def choices(self, name: str) -> list[Choice]:
        """Return the models that a client is asked about, its own first."""
        cluster = self.assignments[name]
        joint = [members for group, members in self.joints.items() if cluster in group]
        return [self.own[name], *self.others(name).values(), *joint]


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
        see `_sufficient`. None, where there are only such of one part.
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
        return _sufficient(several) if several else {}

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
            gains = _gains(answers, {name: (joint, parts[name]) for name in judges})
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


def _distinct(partitions: Iterable[Parts]) -> list[Parts]:
    """Keep the first of those that are the same."""
    kept: list[Parts] = []
    for parts in partitions:
        if parts and parts not in kept:
            kept.append(parts)
    return kept


def _lone(parts: Parts) -> bool:
    """Tell whether one client alone has trained some part."""
    return min(map(len, parts.values())) < 2


def _sufficient(partitions: Sequence[tuple[Parts, Mapping[str, float]]]) -> Parts:
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


def _vector(panel: Panel, members: tuple[str, ...]) -> NDArray[np.float32]:
    mean = panel.trained.mean(members)
    return np.concatenate([mean[part].floats for part in panel.trained.parts])


def _losses(
    answers: Mapping[str, Answer], pairs: Mapping[str, tuple[Choice, Choice]]
) -> FloatArray:
    """Return what those clients lose under two models (2, n) who have judged both."""
    both = [
        (answers[name].loss(now), answers[name].loss(then))
        for name, (now, then) in pairs.items()
        if now in answers[name].places and then in answers[name].places
    ]
    return np.array(both, dtype=np.float64).reshape(-1, 2).T


def _gains(answers: Mapping[str, Answer], pairs: Mapping[str, tuple[Choice, Choice]]) -> FloatArray:
    """Return how much less clients lose under another model, of those who have judged both."""
    now, then = _losses(answers, pairs)
    gains: FloatArray = now - then
    return gains

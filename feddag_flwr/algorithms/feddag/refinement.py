"""Clusters confirmed and refined while they train, by what clients lose on held-back data."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from feddag_flwr.aggregation import weighted_mean
from feddag_flwr.algorithms.algorithm import RoundReplies
from feddag_flwr.algorithms.feddag.held_back import Answer, Choice, Panel, TrainedMeans
from feddag_flwr.clustering.refinement import (
    chance_of_common_gain,
    chance_of_gain,
    level_of_check,
    nested_groups,
    outermost,
    proposed_parts,
    sufficient_parts,
)
from feddag_flwr.federation.context import FederationContext
from feddag_flwr.records import Model
from feddag_flwr.records.train import TRAINED
from feddag_flwr.seeds import generator

logger = logging.getLogger("flwr")

# The part of each client, as its members that have trained.
Parts = Mapping[str, tuple[str, ...]]

KINDS: Final = 3  # of changes, which share a check's chance of an error: merge, split, move
PARTS: Final = (2, 3, 5)  # into so many a cluster may be split at a time
STEPS: Final = 2  # times that clients choose among the parts into which a cluster may split
NEAREST: Final = 9  # other clusters whose models a client compares with its own
MOST_CHANGES: Final = 5  # times that a client may change cluster, each at half the chance
TRAINING: Final = 200  # clients at most that are called to train beside those drawn


class Change(NamedTuple):
    """One change: its kind, the clusters before and after, and what clients lose on the mean.

    `clients` counts those of each cluster after a split, those of each before a merge; `name` is
    who moves.
    """

    kind: str
    before: tuple[int, ...]
    after: tuple[int, ...]
    clients: tuple[int, ...]
    losses: tuple[float, float]
    name: str = ""

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
        if self.kind == "split":
            what = f"cluster {self.before[0]} split in {len(self.after)}"
        else:
            what = f"clusters {', '.join(map(str, self.before))} merged into {self.after[0]}"
        return f"{what} ({counts} clients), held-back loss {losses}"


@dataclass
class Draft:
    """Clusters as a check would have them; `changed` are those that are no longer as judged."""

    assignments: dict[str, int]
    models: list[Model]
    changes: list[Change] = field(default_factory=list)
    changed: set[int] = field(default_factory=set)

    @property
    def regrouped(self) -> bool:
        """Whether clusters have merged or split, not clients moved alone."""
        return any(change.kind != "move" for change in self.changes)

    def free_numbers(self) -> Iterator[int]:
        """Yield numbers of clusters that nobody is in, then new ones, which get a place."""
        taken = set(self.assignments.values()) | self.changed
        for number in range(len(self.models)):
            if number not in taken:
                yield number
        while True:
            self.models.append({})
            yield len(self.models) - 1


class Refiner:
    """Checks a clustering every ``refine-every`` rounds, and says how it should be changed.

    In the round of a check all clients that are there train (`TRAINING` beside those drawn). Each
    then says on held-back data what it loses under its cluster's model, other clusters' models,
    means of clusters that may merge and of parts into which its cluster may split. All that a
    client has trained itself is left out of what it judges its own by.
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
        """Tell whether a round ends with a check; one without a primary phase puts it off."""
        every, sharing = self._context.settings.clustering.refine_every, self._sharing
        primary = sharing.schedule == "both" or server_round % sharing.secondary_period != 0
        return bool(every) and primary and server_round - self._last >= every

    @property
    def _sharing(self) -> Any:  # noqa: ANN401
        return self._context.settings.sharing

    def called(self, server_round: int, drawn: list[str]) -> list[str]:
        """Return who trains in the round of a check: those drawn, and all others there."""
        settled = sorted(self._context.state.assignments.keys() - self._context.drifted)
        others = [name for name in self._context.connected(settled) if name not in set(drawn)]
        if len(others) > TRAINING:
            seed = self._context.settings.run.seed
            rng = generator(seed, "refinement-clients", server_round=server_round)
            others = [others[i] for i in rng.choice(len(others), TRAINING, replace=False)]
        return sorted([*drawn, *others])

    # -- a check -----------------------------------------------------------------------------------

    def check(self, round_replies: RoundReplies) -> Draft:
        """Ask all clients, and draft what follows from their answers."""
        self._checks += 1
        self._last = round_replies.server_round
        state, one = self._context.state, self._sharing.encoders == "one"
        trained = TrainedMeans(round_replies.replies, TRAINED[1:] if one else TRAINED)
        panel = Panel(self._context, round_replies.server_round, trained)
        draft = Draft(dict(state.assignments), list(state.models))
        questions = Questions.of(panel, state.assignments, state.models)
        answers = panel.ask({name: questions.choices(name) for name in panel.names})
        level = level_of_check(self._rate, self._checks) / KINDS
        self._merge(draft, panel, questions, answers, level)
        self._split(draft, panel, questions, answers, level)
        self._move(draft, questions, answers, level)
        self._note(draft)
        return draft

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
        self,
        draft: Draft,
        panel: Panel,
        questions: Questions,
        answers: Mapping[str, Answer],
        level: float,
    ) -> None:
        """Merge clusters whose members lose less under a mean of what all of them have trained.

        Where that is not certain, but so of most members of each, the next check decides: if it is
        so again, they merge, for one cluster does as well as two.
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
            likely.add(group)
            halved = self._halved(level / len(questions.joints), pairs)
            certain = chance_of_common_gain(np.concatenate(of_each)) <= halved
            if halved > 0.0 and (certain or group in self._likely):
                supported.append(group)
        self._likely = likely
        for group in outermost(supported):
            self._join(draft, panel, group, questions, answers)

    def _join(
        self,
        draft: Draft,
        panel: Panel,
        group: tuple[int, ...],
        questions: Questions,
        answers: Mapping[str, Answer],
    ) -> None:
        """Make several clusters the first of them."""
        into, joint = group[0], questions.joints[group]
        names = [name for name, cluster in draft.assignments.items() if cluster in group]
        counts = Counter(draft.assignments[name] for name in names)
        asked = [name for name in names if name in answers]
        losses = (
            _mean_loss(answers, {name: questions.own[name] for name in asked}),
            _mean_loss(answers, dict.fromkeys(asked, joint)),
        )
        sizes = tuple(counts[cluster] for cluster in group)
        model = dict(draft.models[into]) | self._aggregated(panel, joint, into)
        if "secondary" in model:
            seconds = [draft.models[cluster]["secondary"] for cluster in group]
            model["secondary"] = weighted_mean(seconds, sizes)
        draft.models[into] = model
        draft.assignments |= dict.fromkeys(names, into)
        draft.changed |= set(group)
        draft.changes.append(Change("merge", group, (into,), sizes, losses))

    def _aggregated(self, panel: Panel, members: tuple[str, ...], cluster: int) -> Model:
        """Aggregate what some clients have trained, as the members of a cluster."""
        replies = [panel.trained.replies[name] for name in members]
        reference = self._context.state.models[cluster]
        samples = [reply.samples for reply in replies]
        aggregate = self._context.aggregator.aggregate
        made = {
            part: aggregate([reply.parts[part] for reply in replies], samples, reference[part])
            for part in panel.trained.parts
        }
        return {part: weights for part, weights in made.items() if weights.is_finite}

    # -- splitting ---------------------------------------------------------------------------------

    def _split(
        self,
        draft: Draft,
        panel: Panel,
        questions: Questions,
        answers: Mapping[str, Answer],
        level: float,
    ) -> None:
        """Split clusters whose members lose less under what a part of them has trained."""
        everybody = len(draft.assignments)
        for cluster, proposals in questions.proposals.items():
            if cluster in draft.changed or not proposals:
                continue
            members = [name for name, z in draft.assignments.items() if z == cluster]
            of_cluster = self._halved(level * len(members) / everybody, members)
            found = Choosing(panel, members, proposals).run()
            judged = panel.ask(
                {
                    name: [questions.own[name], *(p[name] for p in found.values() if name in p)]
                    for name in members
                    if name in questions.own
                }
            )
            better = {
                number: parts
                for number, parts in found.items()
                if self._chance(judged, questions.own, parts) <= of_cluster / len(found)
            }
            if better:
                parts = joined(panel, better[self._fewest(better, judged)], self._rate)
                self._part(draft, panel, cluster, parts, questions, judged)

    def _fewest(self, better: Mapping[int, Parts], answers: Mapping[str, Answer]) -> int:
        """Return the smallest number of parts that will do."""
        judges = [
            name
            for name, answer in answers.items()
            if all(name in parts and parts[name] in answer.places for parts in better.values())
        ]
        losses = {
            number: np.array([answers[name].loss(parts[name]) for name in judges])
            for number, parts in better.items()
        }
        return sufficient_parts(losses, self._rate)

    @staticmethod
    def _chance(
        answers: Mapping[str, Answer],
        own: Mapping[str, Choice],
        parts: Parts,
    ) -> float:
        """Chance of what members gain under their parts, where they gain nothing."""
        judges = [n for n, part in parts.items() if n in answers and part in answers[n].places]
        return chance_of_common_gain(_gains(answers, {n: (own[n], parts[n]) for n in judges}))

    def _part(
        self,
        draft: Draft,
        panel: Panel,
        cluster: int,
        parts: Parts,
        questions: Questions,
        answers: Mapping[str, Answer],
    ) -> None:
        """Give the largest part of a cluster its number, and others numbers of their own."""
        sizes = Counter(parts.values())
        ordered = sorted(sizes, key=lambda part: (-sizes[part], part))
        if len(ordered) < 2:
            return
        base, free = draft.models[cluster], draft.free_numbers()
        numbers = {part: cluster if not rank else next(free) for rank, part in enumerate(ordered)}
        for part, number in numbers.items():
            draft.models[number] = base | self._aggregated(panel, part, cluster)
        draft.changed |= set(numbers.values())
        members = [name for name, z in draft.assignments.items() if z == cluster]
        draft.assignments |= {n: numbers[parts.get(n, ordered[0])] for n in members}
        after = Counter(draft.assignments[name] for name in members)
        into, judges = tuple(numbers.values()), [n for n in parts if n in answers]
        losses = (
            _mean_loss(answers, {name: questions.own[name] for name in judges}),
            _mean_loss(answers, {name: parts[name] for name in judges}),
        )
        counts = tuple(after[number] for number in into)
        draft.changes.append(Change("split", (cluster,), into, counts, losses))

    # -- moving ------------------------------------------------------------------------------------

    def _move(
        self, draft: Draft, questions: Questions, answers: Mapping[str, Answer], level: float
    ) -> None:
        """Move clients that lose less, for certain, under another cluster's model."""
        for name, answer in answers.items():
            cluster, own = draft.assignments[name], questions.own[name]
            if cluster in draft.changed:
                continue
            others = [z for z in questions.nearest[cluster] if z not in draft.changed]
            if not others:
                continue
            best = min(others, key=answer.loss)
            gain, variance = answer.gain(own, best)
            needed = self._halved(level / (len(draft.assignments) * len(others)), [name])
            if chance_of_gain(gain, variance, answer.losses.freedom) <= needed:
                losses = (answer.loss(own), answer.loss(best))
                draft.assignments[name] = best
                draft.changes.append(Change("move", (cluster,), (best,), (1,), losses, name))

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
        Clusters that members of one compare with theirs: those of the most similar models.
    joints : dict of tuple to tuple
        Clusters that may merge, and who has trained in them.
    proposals : dict of int to dict of int to dict
        By cluster and number of parts: the part of each member that has trained.
    """

    own: dict[str, Choice]
    nearest: dict[int, list[int]]
    joints: dict[tuple[int, ...], tuple[str, ...]]
    proposals: dict[int, dict[int, Parts]]
    assignments: Mapping[str, int]

    @classmethod
    def of(cls, panel: Panel, assignments: Mapping[str, int], models: Sequence[Model]) -> Questions:
        """Draw them up from what has been trained."""
        inhabited = sorted(set(assignments.values()))
        vectors = np.stack([_vector(models[z], panel.trained.parts) for z in inhabited])
        nearest = {}
        for row, cluster in enumerate(inhabited):
            order = np.argsort(np.linalg.norm(vectors - vectors[row], axis=1), kind="stable")
            nearest[cluster] = [inhabited[i] for i in order if i != row][:NEAREST]
        trained = [z for z in inhabited if panel.founders[z]]
        rows = [inhabited.index(z) for z in trained]
        groups = [tuple(trained[i] for i in group) for group in nested_groups(vectors[rows])]
        joints = {
            group: tuple(sorted(n for z in group for n in panel.founders[z])) for group in groups
        }
        proposals = {z: parts_of(panel, panel.founders[z]) for z in trained}
        own = {name: panel.own(name) for name in panel.names}
        return cls(own, nearest, joints, proposals, assignments)

    def choices(self, name: str) -> list[Choice]:
        """Return the models that a client is asked about, its own first."""
        cluster = self.assignments[name]
        joint = [members for group, members in self.joints.items() if cluster in group]
        return [self.own[name], *self.nearest[cluster], *joint]


class Choosing:
    """Clients choose among the parts of their cluster, which are made anew of who chose them.

    They choose by what they lose on training data: so held-back data can judge.
    """

    def __init__(
        self, panel: Panel, members: Sequence[str], proposals: Mapping[int, Parts]
    ) -> None:
        there = set(panel.names)
        self._panel = panel
        self._members = [name for name in members if name in there]
        self._proposals = proposals

    def run(self) -> dict[int, Parts]:
        """Let clients choose until nobody chooses otherwise, `STEPS` times at most."""
        found = list(self._proposals.values())
        for _ in range(STEPS):
            choices = sorted({part for parts in found for part in parts.values()})
            answers = self._panel.ask(dict.fromkeys(self._members, choices), trained_on=True)
            before, found = found, [self._chosen(parts, answers) for parts in found]
            if found == before:
                break
        by_number = {len(set(parts.values())): parts for parts in found}
        return {number: parts for number, parts in by_number.items() if number > 1}

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


def joined(panel: Panel, parts: Parts, rate: float) -> Parts:
    """Join two parts at a time whose members do not gain for certain by being apart."""
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
        if chances[likest] <= rate:
            break
        parts = {name: joints[likest] if part in likest else part for name, part in parts.items()}
    return parts


def _best(answer: Answer, parts: Sequence[tuple[str, ...]]) -> tuple[str, ...]:
    """Return the part of lowest loss; none where there is no mean without the client itself."""
    judged = [part for part in parts if part in answer.places]
    return min(judged, key=answer.loss) if judged else ()


def parts_of(panel: Panel, names: tuple[str, ...]) -> dict[int, Parts]:
    """Propose partitions of clients that have trained: of each number, the part of each."""
    numbers = [number for number in PARTS if number <= len(names) // 2]
    if not numbers:
        return {}
    updates = panel.trained.updates(names, panel.trained.parts[0])
    proposals: dict[int, Parts] = {}
    for number, labels in proposed_parts(updates, numbers).items():
        members = [
            tuple(n for n, z in zip(names, labels, strict=True) if z == part)
            for part in range(number)
        ]
        proposals[number] = {name: members[z] for name, z in zip(names, labels, strict=True)}
    return proposals


def _vector(model: Model, parts: Sequence[str]) -> NDArray[np.float32]:
    return np.concatenate([model[part].floats for part in parts])


def _gains(
    answers: Mapping[str, Answer], pairs: Mapping[str, tuple[Choice, Choice]]
) -> NDArray[np.float64]:
    """Return the gains of those clients under another model who have judged both."""
    return np.array(
        [
            answers[name].gain(now, then)[0]
            for name, (now, then) in pairs.items()
            if now in answers[name].places and then in answers[name].places
        ]
    )


def _mean_loss(answers: Mapping[str, Answer], choices: Mapping[str, Choice]) -> float:
    losses = [answers[n].loss(c) for n, c in choices.items() if c in answers[n].places]
    return float(np.mean(losses)) if losses else 0.0

"""Clusters confirmed and refined while they train, by what clients lose on held-back data."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from feddag_flwr.algorithms.feddag.choosing import Parts, better_parts
from feddag_flwr.algorithms.feddag.draft import Change, Draft
from feddag_flwr.algorithms.feddag.held_back import (
    Answer,
    Choice,
    Panel,
    gains_under,
    losses_under,
)
from feddag_flwr.algorithms.feddag.training_from_one import mean_model, trained_from_one
from feddag_flwr.algorithms.feddag.update_directions import UpdateDirections
from feddag_flwr.clustering.refinement import (
    chance_of_gain,
    is_certain,
    is_likely,
    level_of_check,
    nested_groups,
    outermost,
    trimmed_mean,
)
from feddag_flwr.federation.context import FederationContext
from feddag_flwr.records import Model

logger = logging.getLogger("flwr")

KINDS: Final = 4  # of changes, which share a check's chance of an error
PARTS: Final = (2, 3, 4, 5)  # into so many a cluster, or all, may be parted at a time
NEAREST: Final = 9  # other clusters that a client compares with its own
MOST_CHANGES: Final = 5  # times that a client may change cluster, each at half the chance


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
        self._directions = UpdateDirections()
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
        self._directions.add(trained)
        panel = Panel(self._context, server_round, base, trained)
        questions = Questions.of(panel, self._context.state.assignments)
        answers = panel.ask({name: questions.choices(name) for name in panel.names})
        # One cluster can but split.
        kinds = KINDS if len(set(self._context.state.assignments.values())) > 1 else 1
        level = level_of_check(self._rate, self._checks) / kinds
        draft = self._draft(questions)
        self._merge(draft, questions, answers, level)
        self._split(draft, panel, questions, level)
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
                gains_under(
                    answers, {n: pairs[n] for n in pairs if draft.assignments[n] == cluster}
                )
                for cluster in group
            ]
            if not all(len(gains) and np.median(gains.values) > 0.0 for gains in of_each):
                continue
            gains = gains_under(answers, pairs)
            halved = self._halved(level / len(questions.joints), pairs)
            if not is_likely(gains):
                continue
            likely.add(group)
            if halved > 0.0 and (group in self._likely or is_certain(gains, halved)):
                supported.append(group)
        self._likely = likely
        for group in outermost(supported):
            sizes = draft.join(group, questions.joints[group])
            draft.changes.append(Change("merge", group, group[:1], sizes))

    # -- parting -----------------------------------------------------------------------------------

    def _split(self, draft: Draft, panel: Panel, questions: Questions, level: float) -> None:
        """Split clusters whose members lose less under what a part of them has trained."""
        everybody = len(draft.assignments)
        for cluster in sorted(set(draft.assignments.values()) - draft.changed):
            members = draft.members([cluster])
            of_cluster = self._halved(level * len(members) / everybody, members)
            parts = self._better(panel, questions, draft, members, PARTS, of_cluster)
            if len(set(parts.values())) > 1:
                self._part(draft, (cluster,), parts, "split")

    def _regrouped(self, draft: Draft, panel: Panel, questions: Questions, level: float) -> Draft:
        """Part all clients anew, where that is certain, and better than what has been drafted."""
        now = sorted(set(self._context.state.assignments.values()))
        if len(now) < 2:
            return draft
        numbers = sorted({*PARTS, len(now)})
        halved = self._halved(level, draft.assignments)
        parts = self._better(panel, questions, draft, list(draft.assignments), numbers, halved)
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
        questions: Questions,
        draft: Draft,
        members: Sequence[str],
        numbers: Sequence[int],
        level: float,
    ) -> Parts:
        """Find parts under which members lose less for certain, and less than as drafted."""
        trained = sorted(set(members) & panel.trained.replies.keys())
        proposals = self._directions.parts(trained, numbers)
        if not proposals or level <= 0.0:
            return {}
        now = {name: questions.own[name] for name in members if name in questions.own}
        return better_parts(panel, now, draft.choices, proposals, level)

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
            if panel.trains_encoder and trimmed_mean(gains_under(answers, pairs).values) > 0.0:
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
        told = losses_under(answers, pairs)
        if not told.size:
            return change
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
            "directions": self._directions.notes(),
            "history": self.history,
        }

    def arrays(self) -> dict[str, NDArray[np.float64]]:
        """Return the arrays that the next checks need."""
        return self._directions.arrays()

    def load(self, notes: Mapping[str, Any], arrays: Mapping[str, Any]) -> None:
        """Take over what `notes` and `arrays` returned."""
        self._directions.load(notes["directions"], arrays)
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


def _vector(panel: Panel, members: tuple[str, ...]) -> NDArray[np.float32]:
    mean = panel.trained.mean(members)
    return np.concatenate([mean[part].floats for part in panel.trained.parts])

"""Parts judged on held-back data and corrected by clients, whose losses are given."""

from types import SimpleNamespace

import numpy as np
import pytest

from feddag_flwr.aggregation import Weights
from feddag_flwr.algorithms.feddag.choosing import better_parts
from feddag_flwr.algorithms.feddag.held_back import Answer, TrainedMeans
from feddag_flwr.algorithms.feddag.update_directions import LOOKS, UpdateDirections
from feddag_flwr.records import TrainReply, ValidationLosses

NAMES = [f"c{number:02d}" for number in range(20)]


class Told:
    """A panel whose clients lose what `held_back` and `on_training` say of (name, choice)."""

    def __init__(self, held_back, on_training=None, trained=NAMES):
        self.losses = {False: held_back, True: on_training or held_back}
        self.trained = SimpleNamespace(replies=dict.fromkeys(trained))
        self.asked = []

    def ask(self, choices, *, trained_on=False):
        self.asked.append(trained_on)
        answers = {}
        for name, of_client in choices.items():
            of_client = list(dict.fromkeys(of_client))
            losses = np.array([self.losses[trained_on](name, each) for each in of_client])
            told = ValidationLosses(20, 15, losses, 0.0005 * np.eye(len(of_client)))
            answers[name] = Answer(told, {each: place for place, each in enumerate(of_client)})
        return answers


def parts_of(*groups):
    return {name: tuple(group) for group in groups for name in group}


def alike(groups, gain=1.0):
    """Lose less, the more of a model's members are of the own one of these groups."""
    own = parts_of(*groups)

    def loss(name, members):
        return 3.0 - gain * np.mean([other in own[name] for other in members])

    return loss


WHOLE = dict.fromkeys(NAMES, tuple(NAMES))
HALVES = parts_of(NAMES[:10], NAMES[10:])
QUARTERS = parts_of(NAMES[:5], NAMES[5:10], NAMES[10:15], NAMES[15:])
GROUPS = [NAMES[:10], NAMES[10:]]


def test_parts_that_suit_are_taken_and_others_are_not():
    assert better_parts(Told(alike(GROUPS)), WHOLE, WHOLE, [HALVES], 0.001) == HALVES
    crossed = parts_of(NAMES[::2], NAMES[1::2])
    assert better_parts(Told(alike(GROUPS)), WHOLE, WHOLE, [crossed], 0.001) == {}


def test_who_keeps_a_model_says_nothing_of_the_others():
    now = parts_of(NAMES[:8], NAMES[8:14], NAMES[14:])
    then = parts_of(NAMES[:4], NAMES[4:8], NAMES[8:14], NAMES[14:])
    steps = dict(zip(NAMES[:8], [1.7, 1.2, 1.4, 0.7, 0.1, 0.2, 1.2, 0.3], strict=True))

    def loss(name, members):
        return 3.0 - steps.get(name, 0.0) * (len(members) == 4)

    # Of 20 gains 12 are zero, and of the others some are small: clients gain differently much.
    assert better_parts(Told(loss), now, now, [then], 0.0005) == then


@pytest.mark.parametrize(("lost", "found"), [(0.1, True), (1.0, False)])
def test_each_part_must_suit_most_of_its_members(lost, found):
    now, then = dict.fromkeys(NAMES[:6], tuple(NAMES[:6])), parts_of(NAMES[:4], NAMES[4:6])

    def loss(name, members):
        return 3.0 - (len(members) < 6) * (-lost if name == NAMES[5] else 0.3)

    assert bool(better_parts(Told(loss), now, now, [then], 0.001)) == found


def test_what_clients_choose_makes_nothing_certain():
    def lucky(name, members):
        return 1.0 if members == tuple(NAMES) else 2.0 - (members == tuple(NAMES[::2]))

    told = Told(lucky)
    assert better_parts(told, WHOLE, WHOLE, [HALVES], 0.001) == {}
    assert told.asked == [False]  # nobody is asked to choose where nothing is certain


def test_a_choice_corrects_a_proposal_where_it_is_better():
    wrong = parts_of(NAMES[:9], NAMES[9:])
    assert better_parts(Told(alike(GROUPS)), WHOLE, WHOLE, [wrong], 0.001) == HALVES
    # By training losses clients would rather have the wrong parts, by held-back losses the right.
    told = Told(alike(GROUPS), alike([NAMES[:9], NAMES[9:]]))
    assert better_parts(told, WHOLE, WHOLE, [HALVES], 0.001) == HALVES


def test_who_has_not_trained_is_placed_whether_or_not_the_choice_is_taken():
    trained = [name for name in NAMES if name != "c03"]
    halves = parts_of(NAMES[:3] + NAMES[4:10], NAMES[10:])
    for on_training in (None, alike([NAMES[:9], NAMES[9:]])):
        told = Told(alike(GROUPS), on_training, trained)
        found = better_parts(told, WHOLE, WHOLE, [halves], 0.001)
        assert found == halves | {"c03": halves["c00"]}


def test_the_clearest_is_taken_unless_another_is_likely_better():
    four = [NAMES[:5], NAMES[5:10], NAMES[10:15], NAMES[15:]]
    assert better_parts(Told(alike(four)), WHOLE, WHOLE, [HALVES, QUARTERS], 0.001) == QUARTERS
    assert better_parts(Told(alike(four)), WHOLE, WHOLE, [QUARTERS, HALVES], 0.001) == QUARTERS

    for first in (HALVES, QUARTERS):
        second = QUARTERS if first is HALVES else HALVES
        told = Told(lambda name, members: 3.0 - (len(members) < 20))
        assert better_parts(told, WHOLE, WHOLE, [first, second], 0.001) == first


def test_of_what_has_been_drafted_and_what_is_certain_the_better_is_taken():
    crossed = parts_of(NAMES[::2], NAMES[1::2])

    def loss_of(halves):
        noise = dict(zip(NAMES, np.random.default_rng(9).normal(size=20), strict=True))

        def loss(name, members):
            lost = {tuple(NAMES): 2.0, HALVES[name]: halves + 0.01 * noise[name]}
            return lost.get(members, 3.0)

        return loss

    # Both are better for certain than what is there; of the two it is not certain which is better.
    better, worse = Told(loss_of(1.97)), Told(loss_of(2.03))
    assert better_parts(better, crossed, WHOLE, [HALVES], 1e-9) == HALVES
    assert better_parts(worse, crossed, WHOLE, [HALVES], 1e-9) == {}
    assert better_parts(better, WHOLE, WHOLE, [HALVES], 1e-9) == {}
    assert better_parts(better, crossed, HALVES, [HALVES], 1e-9) == {}


# -- proposals -------------------------------------------------------------------------------------


def trained(updates):
    """What clients have trained from zero."""
    start = {"primary": Weights(np.zeros(updates.shape[1], np.float32))}
    replies = {
        name: TrainReply(10, {"primary": Weights(update.astype(np.float32))}, start)
        for name, update in zip(NAMES, updates, strict=False)
    }
    return TrainedMeans(replies, ["primary"])


def test_checks_together_tell_more_than_the_last_one():
    rng = np.random.default_rng(3)
    groups, right = np.arange(20) // 10, [0, 0]
    for _ in range(20):
        alone, together = UpdateDirections(), UpdateDirections()
        for check in range(LOOKS):
            # Groups differ, in another direction each time; the noise is larger.
            updates = groups[:, None] * rng.normal(size=40) + 1.5 * rng.normal(size=(20, 40))
            together.add(trained(updates))
            if check == LOOKS - 1:
                alone.add(trained(updates))
        for place, looks in enumerate((alone, together)):
            (found,) = looks.parts(NAMES, [2]) or [{}]
            right[place] += found == HALVES
    assert right[0] <= 10 and right[1] >= 18


def test_looks_of_clients_that_were_away_are_lacking_and_old_ones_are_forgotten():
    rng = np.random.default_rng(4)
    together, last = UpdateDirections(), UpdateDirections()
    groups = np.arange(20) // 10
    together.add(trained(np.ones((1, 4)) * rng.normal(size=(12, 1))))
    for check in range(LOOKS):
        assert len(together.notes()) == 1 + check
        updates = 5.0 * groups[:, None] * rng.normal(size=6) + 0.1 * rng.normal(size=(20, 6))
        together.add(trained(updates))
        last.add(trained(updates))
        assert together.parts(NAMES, [2]) == [HALVES]
        assert together.parts(NAMES[4:16], [2]) == [parts_of(NAMES[4:10], NAMES[10:16])]
    assert together.notes() == last.notes() == [NAMES] * LOOKS


def test_nobody_or_too_few_are_parted_in_no_way():
    looks = UpdateDirections()
    looks.add(trained(np.zeros((0, 3))))
    assert looks.notes() == [] and looks.parts([], [2]) == []
    looks.add(trained(np.eye(3)))
    assert looks.parts(NAMES[:3], [2]) == []
    # A part of one client is none.
    looks.add(trained(np.array([[9.0, 0], [0, 1], [0, 1], [0, 1.1]])))
    assert looks.parts(NAMES[:4], [2]) == []


def test_directions_go_through_a_checkpoint():
    rng = np.random.default_rng(5)
    looks, other = UpdateDirections(), UpdateDirections()
    looks.add(trained(rng.normal(size=(9, 3))))
    looks.add(trained(rng.normal(size=(20, 3))))
    other.load(looks.notes(), looks.arrays())
    assert other.parts(NAMES, [2, 3]) == looks.parts(NAMES, [2, 3]) != []

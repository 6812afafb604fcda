"""What members say of each other's updates, and who is in quarantine for it."""

from __future__ import annotations

import json
from math import comb

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from feddag_flwr.federation.reputation import (
    CHANCE,
    WAY_BACK,
    Judgement,
    Reputation,
    Verdict,
    loses,
)
from feddag_flwr.records import ValidationLosses

GOOD, BAD, NOBODY = Verdict(0, 3), Verdict(2, 3), Verdict(0, 0)


def answer(before, after, error=0.1, samples=40):
    """Losses whose difference has the given standard error."""
    covariance = np.diag([0.0, error**2])
    return ValidationLosses(samples, samples - 2, np.array([before, after]), covariance)


def test_a_judge_loses_by_what_raises_its_loss_beyond_chance():
    assert not loses(answer(1.0, 1.29), 0, 1)  # 2.9 standard errors
    assert loses(answer(1.0, 1.31), 0, 1)  # 3.1
    assert not loses(answer(1.31, 1.0), 0, 1)
    assert not loses(answer(1.0, 1.0, error=0.0), 0, 1)


def test_the_error_is_that_of_the_difference():
    """Losses that vary together tell a small difference: 1 + 1 - 2 x 0.995 = 0.01."""
    together = ValidationLosses(
        40, 38, np.array([1.0, 1.4]), np.array([[1.0, 0.995], [0.995, 1.0]])
    )
    assert loses(together, 0, 1)
    apart = ValidationLosses(40, 38, np.array([1.0, 1.4]), np.eye(2))
    assert not loses(apart, 0, 1)


@pytest.mark.parametrize(
    ("worse", "judges", "harmful"),
    [(0, 0, False), (1, 1, True), (1, 2, False), (2, 2, True), (1, 3, False), (2, 3, True)],
)
def test_more_than_half_of_the_judges_decide(worse, judges, harmful):
    assert Verdict(worse, judges).harmful is harmful


def test_a_verdict_counts_those_who_have_samples():
    answers = [answer(1.0, 2.0), answer(1.0, 0.5), answer(0.0, 0.0, samples=2), answer(1.0, 2.0)]
    nothing = ValidationLosses.nothing(2)
    told = [Judgement(each, 0, 1) for each in [*answers, nothing]]
    assert Verdict.of(told) == Verdict(2, 4)
    assert Verdict.of([Judgement(nothing, 0, 1)]) == NOBODY


@pytest.mark.parametrize(
    ("losses", "stands_out"),
    [
        ([1.0, 9.0, 4.9, 2.0], True),  # it costs 8; the others 3.9 and 1
        ([1.0, 9.0, 5.1, 2.0], False),
        ([1.0, 9.0, 0.5, 0.2], True),  # the others gain
        ([1.0, 1.1, 0.5, 0.2], False),  # no harm beyond chance
        ([1.0, 9.0, 2.0], False),  # one other update tells nothing
    ],
)
def test_an_update_stands_out_by_twice_the_harm_of_all_others(losses, stands_out):
    count = len(losses)
    one = ValidationLosses(40, 38, np.array(losses), np.diag(np.full(count, 0.01)))
    judgement = Judgement(one, 0, 1, tuple(range(2, count)))
    assert judgement.finds_it_worst is stands_out
    other = Judgement(answer(1.0, 0.5), 0, 1)
    assert Verdict.of([judgement, judgement, other]).stands_out is stands_out
    assert not Verdict.of([judgement, other]).stands_out


def noted(*verdicts, others=("b", "c", "d")):
    """Return a reputation after verdicts, by name, and what changed by each."""
    reputation = Reputation()
    members = {name for name, _ in verdicts} | set(others)
    return reputation, [
        judged(reputation, name, verdict, members - {name}) for name, verdict in verdicts
    ]


def judged(reputation, name, verdict, others):
    """Note a verdict as the engine does; return what changes by it."""
    left_out = reputation.leaves_out(verdict, others)
    return reputation.note(name, verdict, others, left_out=left_out)


def test_who_alone_is_harmful_is_quarantined():
    """Three harmful of three, and none of eight: 1 of 165 ways to deal them out; two: 1 of 45."""
    assert 1 / comb(11, 3) < CHANCE < 1 / comb(10, 2)
    honest = [(name, GOOD) for name in "bcdb" for _ in range(2)]
    reputation, changes = noted(*honest, *[("a", BAD)] * 3)
    assert changes == [""] * 10 + ["quarantined"]
    assert reputation.quarantined == {"a": 0}


def test_where_all_are_harmful_nobody_is_quarantined():
    verdicts = [(name, BAD) for _ in range(8) for name in "abcd"]
    reputation, changes = noted(*verdicts)
    assert not reputation.quarantined and not any(changes)
    assert reputation.is_usual(["b", "c", "d"])
    assert not reputation.leaves_out(BAD, ["b", "c", "d"])
    assert reputation.leaves_out(Verdict(2, 3, 2), ["b", "c", "d"])  # but it stands out
    assert not reputation.leaves_out(GOOD, ["b", "c", "d"])


def test_two_of_three_make_nothing_usual_three_of_four_do():
    reputation, _ = noted(*[(name, BAD) for name in "bcbc"], ("d", GOOD), ("d", GOOD))
    assert not reputation.is_usual(["b", "c", "d"])
    reputation, _ = noted(*[(name, BAD) for name in "bcebce"], ("d", GOOD), ("d", GOOD))
    assert reputation.is_usual(["b", "c", "d", "e"])


def test_one_member_makes_nothing_usual_however_often_it_is_judged():
    reputation, _ = noted(*[("b", BAD)] * 8, ("c", GOOD), ("c", GOOD))
    assert not reputation.is_usual(["b", "c", "d"])
    assert not Reputation().is_usual(["b", "c"])


def test_the_first_verdicts_condemn_nobody():
    reputation, changes = noted(*[("a", BAD)] * 8)
    assert not reputation.quarantined and not any(changes)


def test_nobody_is_judged_by_nobody():
    honest = [(name, GOOD) for name in "bcd" for _ in range(8)]
    reputation, changes = noted(*honest, *[("a", NOBODY)] * 20)
    assert not reputation.quarantined and not any(changes)
    reputation.begin_on_probation("a")
    for _ in range(WAY_BACK):
        assert not judged(reputation, "a", NOBODY, "bcd")
    assert reputation.quarantined == {"a": 0}


def test_the_way_back_is_some_harmless_updates_on_end():
    reputation = Reputation()
    reputation.begin_on_probation("a")
    for verdict in (GOOD, GOOD, BAD, GOOD, GOOD):
        assert not judged(reputation, "a", verdict, ["b"])
    assert judged(reputation, "a", GOOD, ["b"]) == "back"
    assert not reputation.quarantined
    assert not judged(reputation, "a", BAD, ["b"])  # what was before is forgotten


def test_only_the_last_verdicts_count():
    honest = [(name, GOOD) for name in "bcd" for _ in range(8)]
    reputation, changes = noted(*[("a", BAD)] * 3, *[("a", GOOD)] * 8, *honest, ("a", BAD))
    assert not reputation.quarantined and not any(changes)


VERDICTS = st.lists(st.tuples(st.sampled_from("abcd"), st.sampled_from([GOOD, BAD, NOBODY])))


@given(VERDICTS, VERDICTS)
def test_a_resumed_reputation_says_what_one_that_went_on_says(before, after):
    went_on, _ = noted(*before)
    resumed = Reputation()
    resumed.load_state_dict(json.loads(json.dumps(went_on.state_dict())))
    for name, verdict in after:
        others = set("abcd") - {name}
        assert judged(went_on, name, verdict, others) == judged(resumed, name, verdict, others)
        assert went_on.quarantined == resumed.quarantined
        assert went_on.is_usual(others) == resumed.is_usual(others)

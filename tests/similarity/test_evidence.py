"""Fusion by evidence: which views count on clients whose groups are known by construction."""

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.datasets import load_digits
from sklearn.linear_model import LinearRegression

from feddag_flwr.similarity import evidence as module
from feddag_flwr.similarity import matrices
from feddag_flwr.similarity.class_conditional_distance import (
    ClassConditionalDistance,
    row_distances,
)
from feddag_flwr.similarity.evidence import Evidence, View, ramp, view_of
from feddag_flwr.similarity.label_residual_gradient import LabelResidualGradient
from feddag_flwr.similarity.label_set_distance import label_set_distance, label_set_distance_to
from feddag_flwr.similarity.newcomers import ProfileArrays, measure_newcomers
from feddag_flwr.similarity.persistence import persistence
from feddag_flwr.similarity.proximity import measure_proximity
from feddag_flwr.similarity.subspace import class_angles, data_dissimilarity

pytestmark = pytest.mark.filterwarnings("error")

CLIENTS, CLASSES, FEATURES = 24, 6, 12
OPTIONS = {
    "angle": "vectors",
    "weight_delta": 0.6,
    "weight_scope": "shared",
    "fusion": "evidence",
    "fusion_steps": 30,
}


def federation(seed, *, by_classes=False, by_look=False, by_update=False, chance=False):
    """Updates, bases, counts and kinds of clients in three groups that differ as asked."""
    rng = np.random.default_rng(seed)
    kinds = np.arange(CLIENTS) % 3
    held = np.ones((CLIENTS, CLASSES), dtype=bool)
    if by_classes:
        held = np.arange(CLASSES) // 2 == kinds[:, None]
    if chance:
        held = rng.random((CLIENTS, CLASSES)) < 0.6
        held[np.arange(CLIENTS), rng.integers(0, CLASSES, CLIENTS)] = True
    counts = rng.integers(5, 80, (CLIENTS, CLASSES)) * held
    looks = rng.standard_normal((3 if by_look else 1, CLASSES, FEATURES))
    of_kind = kinds if by_look else np.zeros(CLIENTS, dtype=int)
    noise = rng.standard_normal((CLIENTS, CLASSES, FEATURES))
    vectors = looks[of_kind] + noise * 0.5 / np.sqrt(np.maximum(counts, 1))[:, :, None]
    vectors /= np.linalg.norm(vectors, axis=2, keepdims=True)
    bases = (vectors * held[:, :, None])[:, :, None].astype(np.float32)
    updates = rng.standard_normal((CLIENTS, 60)) + rng.standard_normal(60)
    if by_update:
        updates += 4 * rng.standard_normal((3, 60))[kinds]
    return updates.astype(np.float32), bases, counts, kinds


def measure(updates, bases, counts):
    names = [str(i) for i in range(len(counts))]
    return measure_proximity(updates, bases, counts, names=names, **OPTIONS)


def data_matrix(proximity, counts):
    """V of Eq. 6, which evidence does not look at."""
    assert proximity.data is None
    return data_dissimilarity(proximity.angles, counts, 0.6, "shared")


def parts_the_kinds(proximity, kinds):
    alike = kinds[:, None] == kinds
    off = ~np.eye(len(kinds), dtype=bool)
    return proximity.fused[alike & off].max() < proximity.fused[~alike].min()


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(
    ("how", "view"),
    [("by_classes", "label-set"), ("by_look", "class-conditional"), ("by_update", "gradient")],
)
def test_the_view_in_which_groups_differ_counts_and_no_other(how, view, seed):
    *profiles, kinds = federation(seed, **{how: True})
    proximity = measure(*profiles)
    weights = {name: each.weight for name, each in proximity.evidence.views.items()}
    assert weights.pop(view) > 0.9
    assert max(weights.values()) < 0.5  # few clients: chance may look like a little evidence
    assert parts_the_kinds(proximity, kinds)
    assert proximity.fused.max() <= 1.0


def test_looks_count_where_classes_are_held_by_chance():
    *profiles, kinds = federation(4, by_look=True, chance=True)
    proximity = measure(*profiles)
    views = proximity.evidence.views
    assert views["label-set"].weight == 0.0
    assert views["class-conditional"].weight == 1.0
    assert parts_the_kinds(proximity, kinds)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("held", [0.95, 0.97])
def test_looks_count_where_few_clients_lack_a_class_by_chance(seed, held):
    """Those that lack none are a heap from which they stand apart, as by shuffling too."""
    updates, bases, counts, kinds = federation(seed, by_look=True)
    present = np.random.default_rng(seed).random(counts.shape) < held
    proximity = measure(updates, bases * present[:, :, None, None], counts * present)
    views = proximity.evidence.views
    assert not present.all()
    assert views["label-set"].weight == 0.0
    assert parts_the_kinds(proximity, kinds)


def test_any_view_can_part_two_clients():
    updates, bases, counts, kinds = federation(5, by_look=True)
    rooms = np.arange(CLIENTS) // 3 % 2
    held = np.arange(CLASSES) // 3 == rooms[:, None]
    proximity = measure(updates, bases * held[:, :, None, None], counts * held)
    weights = {name: each.weight for name, each in proximity.evidence.views.items()}
    assert weights["label-set"] == weights["class-conditional"] == 1.0
    assert parts_the_kinds(proximity, kinds * 2 + rooms)


@pytest.mark.parametrize("weights", [(1.0, 1.0, 1.0), (0.3, 0.8, 0.5), (0.0, 0.6, 1.0)])
def test_clients_are_as_far_apart_as_the_view_says_that_sees_them_farthest(weights):
    """Founders' rows as those of newcomers: what differs is who is left out."""
    updates, bases, counts, _ = federation(6, by_look=True, by_update=True, chance=True)
    proximity = measure(updates, bases, counts)
    gradient, pairs = proximity.gradient, proximity.pairs
    evidence = proximity.evidence
    matrices_of = {
        "label-set": label_set_distance(counts),
        "class-conditional": row_distances(pairs[:4], pairs),
        "gradient": LabelResidualGradient.of(gradient, counts)[1],
    }
    views = {
        name: View(0.5, weight, 0.1 * each.max(), 0.9 * each.max())
        for weight, (name, each) in zip(weights, matrices_of.items(), strict=True)
    }
    found = replace(evidence, views=views).rows(gradient[:4], counts[:4], counts, pairs[:4], pairs)
    for i in range(4):
        for j in set(range(CLIENTS)) - {i}:
            expected = max(
                view.weight * min(1, max(0, (matrices_of[n][i, j] - view.floor)
                                         / (view.top - view.floor)))
                for n, view in views.items()
            )  # fmt: skip
            assert found[i, j] == pytest.approx(expected / max(weights), abs=1e-9)
    own = measure(updates, bases, counts).fused
    whole = {**matrices_of, "class-conditional": row_distances(pairs, pairs, same=True)}
    applied = [view.apply(whole[name]) for name, view in evidence.views.items()]
    np.testing.assert_allclose(own, np.max(applied, axis=0), atol=1e-12)
    assert own.max() <= 1.0


def make_as_sure(monkeypatch, profiles, view, weight):
    """Shift the bounds of the weights so that a view's evidence gives it this one."""
    found = measure(*profiles).evidence.views[view].evidence
    bounds = "CERTAINTY" if view == "class-conditional" else "PERSISTENCE"
    monkeypatch.setattr(module, bounds, (found - weight * 0.2, found + (1 - weight) * 0.2))


@pytest.mark.parametrize("share", [1e-6, 0.01, 0.5, 0.75, 1 - 1e-6])
def test_a_view_that_is_little_sure_but_alone_uses_all_of_the_scale(monkeypatch, share):
    *profiles, _ = federation(0, by_classes=True)
    sure = measure(*profiles)
    make_as_sure(monkeypatch, profiles, "label-set", share)
    proximity = measure(*profiles)
    assert proximity.evidence.views["label-set"].weight == pytest.approx(share)
    np.testing.assert_allclose(proximity.fused, sure.fused, atol=1e-9)
    assert proximity.fused.max() == pytest.approx(1.0)


@pytest.mark.parametrize("how", ["by_classes", "by_update"])
@pytest.mark.parametrize("share", [0.0, 0.01, 0.4, 0.75, 1.0])
def test_a_founder_profiled_again_has_the_row_that_it_has(monkeypatch, how, share):
    *profiles, _ = federation(0, **{how: True})
    view = {"by_classes": "label-set", "by_update": "gradient"}[how]
    make_as_sure(monkeypatch, profiles, view, share)
    proximity = measure(*profiles)
    assert proximity.evidence.views[view].weight == pytest.approx(share, abs=1e-9)
    assert proximity.evidence.views["class-conditional"].weight == 0.0
    residents = ProfileArrays.of(*profiles, proximity)
    again = [each[:5] for each in profiles]
    rows = measure_newcomers(residents, *again, names=list("abcde"), **OPTIONS).fused
    np.testing.assert_allclose(rows, proximity.fused[:5], atol=1e-6)


def test_newcomers_among_clients_without_groups_are_as_near_to_all():
    updates, bases, counts, _ = federation(0, chance=True)
    first, late = slice(18), slice(18, None)
    founders = updates[first], bases[first], counts[first]
    residents = ProfileArrays.of(*founders, measure(*founders))
    newcomers, names = (updates[late], bases[late], counts[late]), list("abcdef")
    assert not measure_newcomers(residents, *newcomers, names=names, **OPTIONS).fused.any()


@pytest.mark.parametrize(("by_update", "weight"), [(True, 1.0), (False, 0.0)])
def test_fusion_weights_are_the_gradient_s(by_update, weight):
    updates, bases, counts, _ = federation(1, by_update=by_update, chance=True)
    proximity = measure(updates, bases, counts)
    assert proximity.weights.tolist() == [weight] * CLIENTS
    residents = ProfileArrays.of(updates, bases, counts, proximity)
    first = updates[:2], bases[:2], counts[:2]
    rows = measure_newcomers(residents, *first, names=["a", "b"], **OPTIONS)
    assert rows.weights.tolist() == [weight] * 2


@pytest.mark.parametrize("seed", range(5))
def test_groups_that_the_counts_explain_are_none_of_the_gradient(seed):
    """Updates that say which classes there are, as the first ones do, and little else."""
    updates, bases, counts, kinds = federation(seed, by_classes=True)
    updates = np.random.default_rng(seed).standard_normal((CLIENTS, 60))
    updates[:, :CLASSES] += 16 * (counts > 0)
    proximity = measure(updates.astype(np.float32), bases, counts)
    assert persistence(proximity.gradient) > 0.55
    assert proximity.evidence.views["gradient"].weight < 0.5
    alike = kinds[:, None] == kinds
    assert proximity.evidence.views["label-set"].weight > 0.9
    assert proximity.fused[alike].mean() < 0.3


@pytest.mark.parametrize("seed", range(5))
def test_where_nothing_shows_groups_nobody_is_parted(seed):
    *profiles, _ = federation(seed, chance=True)
    proximity = measure(*profiles)
    assert {view.weight for view in proximity.evidence.views.values()} == {0.0}
    data = data_matrix(proximity, profiles[2])
    assert data.max() > 1.5 * data[data > 0].min()
    assert not proximity.fused.any()


def digits(seed, sizes, kinds=None):
    """Handwritten digits, all ten on each client, about so many of each; a kind shifts labels."""
    rng = np.random.default_rng(seed)
    images, labels = load_digits(return_X_y=True)
    bases = np.zeros((len(sizes), 10, 3, 64), dtype=np.float32)
    counts = np.zeros((len(sizes), 10), dtype=int)
    for digit in range(10):
        left = rng.permutation(np.flatnonzero(labels == digit))
        for client, size in enumerate(sizes):
            mine, left = np.split(left, [size])
            label = digit if kinds is None else (digit + kinds[client]) % 10
            vectors = np.linalg.svd(images[mine] / 16, full_matrices=False)[2][:3]
            bases[client, label, : len(vectors)], counts[client, label] = vectors, len(mine)
    return rng.standard_normal((len(sizes), 200)).astype(np.float32), bases, counts


@pytest.mark.parametrize(
    "sizes", [(3, 14) * 10, (2, 2, 2, 25) * 3, (10, 20) * 3, (1, 4, 16, 60), (5, 20) * 4]
)
@pytest.mark.parametrize("seed", range(3))
def test_clients_of_one_kind_that_differ_in_size_are_not_parted_by_it(sizes, seed):
    """Vectors of few samples are far from all others, in each class: that is no look."""
    profiles = digits(seed, sizes)
    proximity = measure(*profiles)
    angles = data_matrix(proximity, profiles[2])[~np.eye(len(sizes), dtype=bool)]
    assert angles.max() > 1.3 * angles.min()
    assert proximity.evidence.views["class-conditional"].weight == 0.0
    assert not proximity.fused.any()


@pytest.mark.parametrize("sizes", [(5, 20) * 2, (5, 20) * 5, (8, 8, 30, 4) * 2])
@pytest.mark.parametrize("seed", range(3))
def test_kinds_of_clients_are_told_apart_though_their_sizes_differ_as_well(sizes, seed):
    """Also where all large clients are of one kind and all small ones of the other."""
    kinds = np.arange(len(sizes)) % 2
    proximity = measure(*digits(seed, sizes, kinds))
    assert proximity.evidence.views["class-conditional"].weight == 1.0
    assert parts_the_kinds(proximity, kinds)


@pytest.mark.parametrize(("odd", "parted"), [((5,), False), ((20,), True), ((5, 5), True)])
def test_one_small_client_of_another_kind_passes_for_a_noisy_one(odd, parted):
    """The price of taking sizes for no looks; a large one, or two, are told apart."""
    sizes, kinds = (20,) * 6 + odd, np.array([0] * 6 + [1] * len(odd))
    proximity = measure(*digits(0, sizes, kinds))
    assert proximity.fused.any() == parted
    if parted:
        assert parts_the_kinds(proximity, kinds)


@pytest.mark.parametrize("how", ["by_classes", "by_look", "by_update"])
def test_newcomers_are_measured_as_they_would_have_been(how):
    updates, bases, counts, kinds = federation(2, **{how: True})
    first, late = np.arange(18), np.arange(18, CLIENTS)
    founders = [each[first] for each in (updates, bases, counts)]
    proximity = measure(*founders)
    residents = ProfileArrays.of(*founders, proximity)
    newcomers = [each[late] for each in (updates, bases, counts)]
    names = [str(i) for i in late]
    rows = measure_newcomers(residents, *newcomers, names=names, **OPTIONS).fused
    alike = kinds[late][:, None] == kinds[first]
    assert rows[alike].max() < rows[~alike].min()

    # One after the other, each against those before it.
    grown = residents.joined_by(*(each[:3] for each in newcomers), "vectors")
    rest = [each[3:] for each in newcomers]
    later = measure_newcomers(grown, *rest, names=names[3:], **OPTIONS).fused
    np.testing.assert_allclose(later[:, : len(first)], rows[3:])
    near = kinds[late[3:]][:, None] == kinds[late[:3]]
    assert later[:, len(first) :][near].max() < later[:, len(first) :][~near].min()
    kept = grown.only([*range(18), 20])
    np.testing.assert_array_equal(kept.pairs, grown.pairs[[*range(18), 20]])


@pytest.mark.parametrize("weight", [0.4, 0.75, 1.0])
def test_a_newcomer_like_a_founder_lies_as_far_from_the_others(monkeypatch, weight):
    updates, bases, counts, _ = federation(3, by_look=True, chance=True)
    make_as_sure(monkeypatch, (updates, bases, counts), "class-conditional", weight)
    proximity = measure(updates, bases, counts)
    assert proximity.evidence.views["class-conditional"].weight == pytest.approx(weight)
    residents = ProfileArrays.of(updates, bases, counts, proximity)
    found = measure_newcomers(
        residents, updates[:4], bases[:4], counts[:4], names=list("abcd"), **OPTIONS
    ).fused
    assert np.abs(found - proximity.fused[:4]).max() < 0.1


def test_notes_keep_every_bit():
    *profiles, _ = federation(1, by_look=True, chance=True)
    evidence = measure(*profiles).evidence
    again = Evidence.of_notes(json.loads(json.dumps(evidence.notes())))
    assert again.views == evidence.views
    assert again.notes() == evidence.notes()
    np.testing.assert_array_equal(again.class_conditional.noise, evidence.class_conditional.noise)
    np.testing.assert_array_equal(
        again.label_residual_gradient.coefficients, evidence.label_residual_gradient.coefficients
    )


@pytest.mark.parametrize("clients", [1, 2, 3, 4])
def test_few_clients_are_no_obstacle(clients):
    profiles = [each[:clients] for each in federation(1, by_look=True)[:3]]
    proximity = measure(*profiles)
    assert proximity.fused.shape == (clients, clients)
    assert not np.diagonal(proximity.fused).any()


@pytest.mark.parametrize("seed", range(5))
def test_rounding_is_no_evidence(seed):
    """Four clients have as many pairs as their counts have coefficients: nothing is left."""
    updates, bases, counts, _ = (each[:4] for each in federation(seed, chance=True))
    proximity = measure(updates, bases, counts)
    assert proximity.evidence.views["gradient"].weight == 0.0
    _, remainders = LabelResidualGradient.of(proximity.gradient, counts)
    assert not remainders.any()


@pytest.mark.parametrize("clients", [5, 6, 7, 8])
def test_clients_equally_far_from_each_other_are_no_groups(clients):
    updates, bases, counts, _ = (each[:clients] for each in federation(0, chance=True))
    proximity = measure(np.eye(clients, 60, dtype=np.float32), bases, counts)
    assert proximity.evidence.views["gradient"].weight == 0.0
    alike = measure(*(np.repeat(each[:1], clients, axis=0) for each in (updates, bases, counts)))
    assert not alike.fused.any()


@pytest.mark.parametrize("fusion", ["evidence", "data"])
def test_clients_that_look_alike_to_rounding_are_not_stretched_apart(fusion):
    """Equal looks and classes, other counts: the angles of equal vectors are rounding."""
    rng = np.random.default_rng(0)
    look = rng.standard_normal((1, CLASSES, 1, 784))
    bases = (look * rng.uniform(0.5, 2.0, (CLIENTS, 1, 1, 1))).astype(np.float32)
    bases /= np.linalg.norm(bases, axis=3, keepdims=True)
    counts = rng.integers(5, 80, (CLIENTS, CLASSES))
    profiles = rng.standard_normal((CLIENTS, 60)), bases, counts
    options = OPTIONS | {"fusion": fusion}
    names = [str(i) for i in range(CLIENTS)]
    proximity = measure_proximity(*profiles, names=names, **options)
    data = proximity.data if fusion == "data" else data_matrix(proximity, counts)
    assert data.max() > 0.0
    assert not proximity.fused.any()
    residents = ProfileArrays.of(*profiles, proximity)
    late = [each[:3] for each in profiles]
    assert not measure_newcomers(residents, *late, names=names[:3], **options).fused.any()


@pytest.mark.parametrize("least", [20, 40])
def test_classes_kept_back_do_not_look_like_anything(least):
    """As with the setting min-subspace-samples; V' has 90 degrees there."""
    updates, bases, counts, kinds = federation(2, by_look=True)
    sent = counts >= least
    assert 0.1 < sent.mean() < 0.9
    bases = bases * sent[:, :, None, None]
    proximity = measure(updates, bases, counts)
    found = proximity.evidence
    expected, pairs = ClassConditionalDistance.of(class_angles(bases, counts), counts * sent)
    assert found.class_conditional.reliability == expected.reliability
    np.testing.assert_array_equal(proximity.pairs, pairs)
    assert found.views["class-conditional"].weight == 1.0
    assert found.views["label-set"].weight == 0.0  # they are held, sent or not
    alike = kinds[:, None] == kinds
    assert proximity.fused[alike].mean() < 0.2 < 0.8 < proximity.fused[~alike].mean()
    residents = ProfileArrays.of(updates, bases, counts, proximity)
    rows = residents.pairs_of(bases[:5], counts[:5], "vectors")
    others = ~np.eye(5, CLIENTS, dtype=bool)
    np.testing.assert_allclose(rows[others], pairs[:5][others])


def test_nothing_depends_on_how_rows_are_cut_into_blocks(monkeypatch):
    updates, bases, counts, _ = federation(6, by_update=True, chance=True)
    whole = measure(updates, bases, counts)
    assert whole.evidence.views["gradient"].weight > 0.9
    monkeypatch.setattr(matrices, "BLOCK_ENTRIES", 500)  # of the regression: three rows
    found = measure(updates, bases, counts)
    np.testing.assert_allclose(found.fused, whole.fused, atol=1e-9)
    assert found.evidence.label_residual_gradient.explained == pytest.approx(
        whole.evidence.label_residual_gradient.explained
    )


# -- the pieces ------------------------------------------------------------------------------------


def test_weights_rise_between_the_bounds_that_were_chosen():
    """Kinds that are less and less clear: from full weight to none, and between."""
    bounds = {"label-set": (0.4, 0.55), "class-conditional": (0.2, 0.4), "gradient": (0.4, 0.55)}
    between = set()
    updates, bases, counts, _ = federation(0, by_look=True, by_update=True)
    rng = np.random.default_rng(0)
    of_updates, of_bases = (rng.standard_normal(each.shape) for each in (updates, bases))
    for share in np.linspace(0, 1, 21):
        blurred = (bases + 0.4 * share * of_bases).astype(np.float32)
        evidence = measure(updates + 5 * share * of_updates, blurred, counts).evidence
        views = evidence.views
        assert views["class-conditional"].evidence == evidence.class_conditional.certain
        assert set(views) == set(bounds)
        for name, (low, high) in bounds.items():
            expected = min(1.0, max(0.0, (views[name].evidence - low) / (high - low)))
            assert views[name].weight == pytest.approx(expected), name
            if 0.1 < expected < 0.9:
                between.add(name)
    assert between == {"class-conditional", "gradient"}


@pytest.mark.parametrize(("value", "expected"), [(0, 0), (0.25, 0), (0.375, 0.5), (0.5, 1), (1, 1)])
def test_ramp(value, expected):
    assert ramp(value, (0.25, 0.5)) == expected


def test_a_view_is_cut_at_its_floor_and_its_top():
    view = View(0.5, 0.8, 10.0, 50.0)
    found = view.apply(np.array([0.0, 10, 20, 50, 90]))
    np.testing.assert_allclose(found, [0, 0, 0.2, 0.8, 0.8])
    assert not View(0.5, 1.0, 3.0, 3.0).apply(np.ones(3)).any()


def test_a_view_is_measured_by_its_nearest_peers_and_its_dendrogram():
    line = np.array([0.0, 1, 4, 6, 10])
    found = view_of(np.abs(line[:, None] - line), 0.7, (0.5, 0.9))
    # Nearest peers are 1, 1, 2, 2 and 4 away: three quarters have one within 2. Merges by average
    # linkage at 1, 2, 4.5 (0 and 1 with 4 and 6) and 7.25 (10 with all of them).
    assert found == View(0.7, pytest.approx(0.5), 2.0, 7.25)
    assert view_of(np.abs(line[:, None] - line) * 1e-6, 0.7, (0.5, 0.9)).weight == 0.0


@given(st.lists(st.lists(st.integers(0, 3), min_size=4, max_size=4), min_size=1, max_size=8))
def test_presence_is_the_jaccard_distance_of_sets(rows):
    sets = [{c for c, n in enumerate(row) if n} for row in rows]
    found = label_set_distance(rows)
    for i, one in enumerate(sets):
        for j, two in enumerate(sets):
            expected = 1 - len(one & two) / len(one | two) if one | two else 0.0
            assert found[i, j] == pytest.approx(expected)
    np.testing.assert_array_equal(label_set_distance_to(rows[:1], rows)[0, 1:], found[0, 1:])


def test_what_counts_explain_is_a_linear_regression():
    rng = np.random.default_rng(0)
    counts = rng.integers(0, 50, (15, 4))
    counts[:, 0] += 1
    gradient = rng.uniform(10, 90, (15, 15))
    gradient = np.triu(gradient, 1) + np.triu(gradient, 1).T
    pairs = np.triu_indices(15, 1)
    known = []
    for i, j in zip(*pairs, strict=True):
        p, q = counts[i] / counts[i].sum(), counts[j] / counts[j].sum()
        angle = np.arccos(min(1.0, float(np.sqrt(p * q).sum())))
        both, either = ((p > 0) & (q > 0)).sum(), ((p > 0) | (q > 0)).sum()
        sizes = sorted(np.log([counts[i].sum(), counts[j].sum()]))
        known.append([angle, angle**2, 1 - both / either, *sizes])
    model = LinearRegression().fit(known, gradient[pairs])
    found, remainders = LabelResidualGradient.of(gradient, counts)
    assert found.explained == pytest.approx(model.score(known, gradient[pairs]))
    left = gradient[pairs] - model.predict(known)
    np.testing.assert_allclose(remainders[pairs], left - left.min(), atol=1e-8)
    rows = found.rows(gradient[:2], counts[:2], counts)
    np.testing.assert_allclose(rows[0, 1:], remainders[0, 1:], atol=1e-8)
    assert rows.min() >= 0


def test_remainders_of_many_classes_are_symmetric_to_the_bit():
    rng = np.random.default_rng(0)  # a product of so many is not
    counts = rng.integers(1, 50, (300, 100))
    gradient = rng.uniform(5, 90, (300, 300))
    gradient = np.triu(gradient, 1) + np.triu(gradient, 1).T
    _, remainders = LabelResidualGradient.of(gradient, counts)
    np.testing.assert_array_equal(remainders, remainders.T)


def test_a_client_without_samples_is_described_too():
    counts = np.array([[0, 0], [5, 1], [1, 5], [3, 3], [2, 9]])
    gradient = 40.0 * (1 - np.eye(5))
    gradient[0, 1:] = gradient[1:, 0] = 90.0
    found, remainders = LabelResidualGradient.of(gradient, counts)
    assert found.explained == pytest.approx(1.0)
    assert remainders.max() < 1e-6

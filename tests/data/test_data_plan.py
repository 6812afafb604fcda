import math
from collections import Counter
from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st

from feddag_flwr.data.partition import domain_counts, draw_class_pairs, lda_counts
from feddag_flwr.data.plan import make_plan
from feddag_flwr.data.samples import DataError, Dataset, LabelledSamples
from feddag_flwr.data.variation import Variation, map_labels
from feddag_flwr.seeds import derived_seed
from feddag_flwr.settings import Settings


def _settings(**values):
    return Settings.from_run_config({key.replace("_", "-"): value for key, value in values.items()})


def _source(num_classes, *, height=4, width=4, of_each=100, domain_names=()):
    labels = np.repeat(np.arange(num_classes * max(1, len(domain_names))), of_each)
    images = LabelledSamples(np.zeros((len(labels), 1, height, width), np.uint8), labels)
    names = tuple(f"class-{index}" for index in range(num_classes))
    return Dataset("npz", images, images, names, domain_names)


TEN_CLASSES = _source(10, of_each=6000)


def _plan(**values):
    return make_plan(TEN_CLASSES, _settings(**values))


@given(st.integers(2, 30), st.data(), st.integers(0, 1000))
def test_class_pairs_are_pairs_and_all_different(num_classes, data, seed):
    groups = data.draw(st.integers(1, math.comb(num_classes, 2)))
    drawn = draw_class_pairs(num_classes, groups, seed)
    assert all(0 <= low < high < num_classes for low, high in drawn)
    assert len({tuple(pair.tolist()) for pair in drawn}) == len(drawn) == groups


def test_every_pair_is_as_likely():
    times = Counter(
        tuple(pair.tolist()) for seed in range(900) for pair in draw_class_pairs(4, 2, seed)
    )
    assert len(times) == 6
    assert all(240 < count < 360 for count in times.values())  # 300 each; deviation 14


def test_eleven_class_pairs_make_eleven_groups():
    plan = _plan(scenario="class-pairs", client_groups=11, num_clients=25)
    held = [tuple(np.flatnonzero(row).tolist()) for row in plan.counts]
    pairs = {int(group): pair for group, pair in zip(plan.true_groups, held, strict=True)}
    assert sorted(pairs) == list(range(11))
    assert len(set(pairs.values())) == 11
    assert all(len(pair) == 2 for pair in pairs.values())
    assert all(
        pairs[int(group)] == pair for group, pair in zip(plan.true_groups, held, strict=True)
    )
    assert set(np.bincount(plan.true_groups)) == {2, 3}
    assert plan.counts[plan.counts > 0].min() >= 2


def test_too_many_groups_for_the_pairs_of_a_file():
    settings = _settings(scenario="class-pairs", client_groups=7, dataset="npz", data_dir="x")
    with pytest.raises(DataError, match=r"client-groups = 7: .*'class-pairs' has 6 pairs of the 4"):
        make_plan(_source(4), settings)


@pytest.mark.parametrize(
    ("setting", "levels", "attribute"),
    [("concepts", 3, "concepts"), ("rotations", 4, "quarter_turns")],
)
def test_levels_are_dealt_evenly_by_seed_and_not_by_label_group(setting, levels, attribute):
    plan = _plan(**{setting: levels}, num_clients=90)
    dealt = getattr(plan, attribute)
    assert np.ptp(np.bincount(dealt, minlength=levels)) <= 1
    label_groups = [tuple(row > 0) for row in plan.counts]
    assert len(set(zip(label_groups, dealt.tolist(), strict=True))) == 5 * levels
    other = getattr(_plan(**{setting: levels}, num_clients=90, seed=2), attribute)
    assert (dealt != other).any()
    # The split is that of the scenario without the setting.
    assert (plan.counts == _plan(num_clients=90).counts).all()


def test_two_rotations_are_upright_and_upside_down():
    plan = _plan(rotations=2)
    assert set(plan.quarter_turns) == {0, 2}


def test_corruptions_are_dealt_evenly():
    plan = _plan(corruptions="fog, jpeg-compression,snow", severity=4, num_clients=31)
    assert plan.kinds == ("fog", "jpeg-compression", "snow")
    assert sorted(np.bincount(plan.corruptions)) == [10, 10, 11]
    assert set(plan.severities) == {4}
    assert len(_plan(corruptions="all").kinds) >= 15


def test_severity_zero_is_drawn_for_each_client():
    drawn = _plan(corruptions="fog", severity=0, num_clients=200).severities
    assert set(drawn) == {1, 2, 3, 4, 5}
    assert np.bincount(drawn)[1:].min() > 20


def test_nothing_varies_by_default():
    plan = _plan()
    assert {plan.variation(client) for client in range(20)} == {Variation()}


@pytest.mark.parametrize(
    ("changes", "groups"),
    [
        ({"scenario": "lda"}, None),
        ({"scenario": "lda", "corruptions": "fog"}, None),  # all alike
        ({"scenario": "lda", "corruptions": "fog,snow"}, 2),
        ({"scenario": "lda", "corruptions": "fog,snow", "severity": 0}, 2),
        ({"scenario": "lda", "concepts": 3}, 3),
        ({"scenario": "lda", "concepts": 3, "rotations": 4, "num_clients": 200}, 12),
        ({}, 5),
        ({"client_groups": 1}, 1),
        ({"concepts": 2, "num_clients": 100}, 10),
        ({"concepts": 3, "rotations": 2, "corruptions": "fog,snow", "num_clients": 600}, 60),
    ],
)
def test_true_groups_number_the_combinations(changes, groups):
    plan = _plan(min_class_samples=1, **changes)
    if groups is None:
        assert plan.true_groups is None
        assert plan.true_group(0) is None
    else:
        assert sorted(set(plan.true_groups.tolist())) == list(range(groups))


def test_true_groups_are_sorted_by_label_group_then_concept_then_rotation_then_corruption():
    plan = _plan(concepts=3, rotations=2, corruptions="snow,fog", num_clients=300)
    plain = _plan(num_clients=300)
    key = list(
        zip(plain.true_groups, plan.concepts, plan.quarter_turns, plan.corruptions, strict=True)
    )
    numbers = {combination: index for index, combination in enumerate(sorted(set(key)))}
    assert plan.true_groups.tolist() == [numbers[combination] for combination in key]


def test_label_counts_are_seen_through_the_concept():
    plan = _plan(concepts=3)
    seen = plan.label_counts()
    for client, (concept, label) in product(range(20), product(range(3), range(10))):
        if plan.concepts[client] == concept:
            mapped = map_labels(np.array(label), concept, 10)
            assert seen[client, mapped] == plan.counts[client, label]


@examples(max_examples=30)
@given(st.integers(1, 4), st.integers(1, 5), st.integers(0, 100), st.data())
def test_domains_are_split_among_their_own_clients(domains, classes, seed, data):
    clients = data.draw(st.integers(domains, 12))
    sizes = np.array(
        data.draw(
            st.lists(st.integers(12, 60), min_size=domains * classes, max_size=domains * classes)
        )
    ).reshape(domains, classes)
    groups = np.arange(clients) % domains
    names = [f"d{index}" for index in range(domains)]
    counts = domain_counts(sizes, names, groups=groups, alpha=1.0, floor=1, seed=seed)
    by_domain = counts.reshape(clients, domains, classes)
    assert (by_domain.sum(axis=0) == sizes).all()
    for client in range(clients):
        assert (
            by_domain[client].any(axis=1).tolist()
            == (np.arange(domains) == groups[client]).tolist()
        )
    alone = lda_counts(
        sizes[0].tolist(),
        num_clients=int((groups == 0).sum()),
        alpha=1.0,
        floor=1,
        seed=derived_seed(seed, "domain-d0"),
    )
    assert (by_domain[groups == 0, 0] == alone).all()


def test_domains_are_true_groups():
    settings = _settings(scenario="domains", dataset="image-folder", data_dir="x", num_clients=10)
    plan = make_plan(_source(4, domain_names=("art", "photo", "sketch")), settings)
    assert plan.counts.shape == (10, 12)
    domains = plan.counts.reshape(10, 3, 4).sum(axis=2).argmax(axis=1)
    assert (plan.true_groups == domains).all()
    assert plan.label_counts().sum() == 1200


def test_faults_of_data_and_settings_are_named():
    folder = {"scenario": "domains", "dataset": "image-folder", "data_dir": "x"}
    art = _source(2, domain_names=("art", "photo", "sketch"))
    with pytest.raises(DataError, match=r"num-clients = 2: .* 3 domains \(art, photo, sketch\)"):
        make_plan(art, _settings(**folder, num_clients=2))
    with pytest.raises(
        DataError, match="domain 'art': 200 training samples, but 1 clients need min"
    ):
        make_plan(art, _settings(**folder, num_clients=3, min_class_samples=201))
    with pytest.raises(DataError, match=r"concepts = 2: .* the same for 2 class\(es\)"):
        make_plan(_source(2), _settings(concepts=2))
    flat = _source(3, height=4, width=6)
    with pytest.raises(
        DataError, match="rotations = 4: images of dataset 'npz' are 4 x 6; quarter"
    ):
        make_plan(flat, _settings(rotations=4))
    assert set(make_plan(flat, _settings(rotations=2)).quarter_turns) == {0, 2}

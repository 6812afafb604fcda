"""Every setting refuses what it cannot be, and says what it was given and what it may be."""

import math
from typing import get_args

import pytest

from feddag_flwr.algorithm_names import ALGORITHMS
from feddag_flwr.clustering.settings import MOST_CANDIDATES
from feddag_flwr.registries import (
    AGGREGATORS,
    AUGMENTATIONS,
    METRICS,
    MODALITIES,
    OBJECTIVES,
    OBSERVERS,
    OPTIMISERS,
    POSTPROCESSORS,
    TRAINERS,
)
from feddag_flwr.settings import CATALOGUE, FROM_PRESET, Settings, SettingsError

REGISTRIES = (
    AGGREGATORS, AUGMENTATIONS, METRICS, MODALITIES, OBJECTIVES, OBSERVERS, OPTIMISERS,
    POSTPROCESSORS, TRAINERS,
)  # fmt: skip
# What a text may be that is checked by its form: a wrong one, and words of the refusal.
FORMS = {
    **{each.setting: ("no such", [*each.names, "package.module"]) for each in REGISTRIES},
    "algorithm": ("no such", [*ALGORITHMS, "package.module:Class"]),
    "model": (
        "no such",
        [
            "auto",
            "small",
            "lenet",
            "cnn3",
            "mlp",
            "linear",
            "resnet18",
            "resnet50",
            "efficientnet_b0",
            "vit_b_16",
            "torchvision.models:NAME",
            "package.module:factory",
        ],
    ),
    "dataset": (
        "no such",
        ["digits", "svhn", "npz", "image-folder", "table", "package.module:load"],
    ),
    "view-model": ("resnet", ["resnet18", "vit_b_16", "torchvision.models:NAME"]),
    "view-digest": ("xyz", ["8 to 64"]),
    "device": ("tpu", ["auto", "cpu", "cuda", "cuda:N"]),
    "schedule": ("0:1", ["both", "K:1", "1 to 9999"]),
    "corruptions": ("rain", ["empty", "all", "fog", "jpeg-compression"]),
    "class-map": ("ill", ["label=class", "commas"]),
    "class-names": ("cat,,dog", ["different names", "commas"]),
    "frozen-layers": ("the trunk", ["names of layers", "commas"]),
    "run-name": ("a/b", ["one folder name"]),
}
# Any text will do: what it names is looked for when the run starts.
PLACES = {
    "data-dir", "encoder-weights", "view-weights", "resume", "run-dir",
    "label-column", "client-column", "categorical-columns", "drop-columns",
}  # fmt: skip


def kind_of(key):
    return CATALOGUE[key].field.annotation


def limit(key, *names):
    """Bound of a number among pydantic's own notes of the field, or None."""
    found = [getattr(part, name, None) for part in CATALOGUE[key].field.metadata for name in names]
    return next((bound for bound in found if bound is not None), None)


def words_of(key):
    """What a refusal of a value of the wrong type must say."""
    kind = kind_of(key)
    if kind is bool:
        return ["true or false"]
    if kind is str:
        return ["a text in quotes"]
    if kind in (int, float):
        if CATALOGUE[key].facts.choices:
            return list(CATALOGUE[key].facts.choices)
        bounds = (limit(key, "ge", "gt"), limit(key, "le", "lt"))
        return [str(bound) for bound in bounds if bound is not None]
    preset = [FROM_PRESET] if CATALOGUE[key].facts.preset is not None else []
    return [repr(choice) for choice in [*get_args(kind), *preset]]


def wrong_types():
    for key in CATALOGUE:
        kind = kind_of(key)
        for value in ([1], {"a": 1}, 7 if kind not in (int, float) else "seven"):
            yield key, value, words_of(key)


def out_of_range():
    for key in CATALOGUE:
        kind = kind_of(key)
        if kind in (int, float):
            low, high = limit(key, "ge", "gt"), limit(key, "le", "lt")
            yield key, low - 1, words_of(key)
            if high is not None:
                yield key, high + 1, words_of(key)
        if kind is float:
            yield from ((key, value, words_of(key)) for value in (math.nan, math.inf))
        if kind is str and key not in PLACES:
            yield key, *FORMS[key]
        if kind not in (bool, int, float, str):
            yield key, "no such", words_of(key)


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        pytest.param(*case, id=f"{case[0]}={case[1]!r}")
        for case in [*wrong_types(), *out_of_range()]
    ],
)
def test_a_refusal_names_key_value_and_what_is_allowed(key, value, words):
    with pytest.raises(SettingsError) as caught:
        Settings.from_run_config({key: value})
    (line,) = str(caught.value).splitlines()
    start = f"setting {key} = {value!r}: "
    assert line.startswith(start)
    told = line.removeprefix(start)
    assert [word for word in words if word not in told] == []


def test_every_setting_is_refused_something():
    assert {key for key, *_ in wrong_types()} == set(CATALOGUE)
    assert {key for key, *_ in out_of_range()} == {
        key for key in CATALOGUE if key not in PLACES and kind_of(key) is not bool
    }


@pytest.mark.parametrize(
    ("config", "told"),
    [
        ({"nonsense-of-mine": [1]},
         "unknown setting 'nonsense-of-mine' = [1]; docs/settings.md lists all"),
        ({"diversity": 0.1, "secondary": "none"},
         "setting diversity = 0.1: needs a secondary encoder, must be 0 without one"),
        ({"schedule": "5:1", "secondary": "none"},
         "setting schedule = '5:1': secondary = 'none' has no such phase, must be 'both'"),
        ({"scenario": "own", "dataset": "npz", "rotations": 2},
         "setting rotations = 2: scenario 'own' takes clients' data as it is, must be 1"),
        ({"modality": "a:B", "dataset": "npz", "data-dir": "x", "rotations": 2},
         "setting rotations = 2: only images can be varied so, must be 1"),
        ({"scenario": "class-pairs", "client-groups": 46, "num-clients": 50},
         "setting client-groups = 46: scenario 'class-pairs' has 45 pairs of the 10 classes of "
         "dataset 'digits', must be 45 at most"),
        ({"aggregator": " "},
         "setting aggregator = ' ': must be mean, clipped-mean, median, trimmed-mean, multi-krum, "
         "geometric-median or package.module:attribute"),
        ({"aggregator": "mean, mean"},
         "setting aggregator = 'mean, mean': must be mean, clipped-mean, median, trimmed-mean, "
         "multi-krum, geometric-median or package.module:attribute"),
        ({"metrics": "accuracy, accuracy"},
         "setting metrics = 'accuracy, accuracy': must name each metric once"),
        ({"metrics": ""},
         "setting metrics = '': '' must be balanced-accuracy, accuracy, loss, macro-f1, auroc, "
         "average-precision, calibration-error or package.module:attribute, separated by commas"),
        ({"observers": "progress, closing-table,progress"},
         "setting observers = 'progress, closing-table,progress': must name each observer once"),
        ({"observers": "a:B, a:B"},
         "setting observers = 'a:B, a:B': must name each observer once"),
        ({"postprocessors": "transport, transport"},
         "setting postprocessors = 'transport, transport': must name each postprocessor once"),
        ({"run-name": "  \t"},
         "setting run-name = '  \\t': must be empty, or one folder name that is not blank"),
        ({"held-out-share": 0.02},
         "setting held-out-share = 0.02: 0 of num-clients = 20, must be 0, or one at least and "
         "leave two to train"),
        ({"held-out-share": 0.5, "num-clients": 2, "client-groups": 2},
         "setting held-out-share = 0.5: 0 of num-clients = 2, must be 0, or one at least and "
         "leave two to train"),
    ],
)  # fmt: skip
def test_a_refusal_is_this_one_line(config, told):
    with pytest.raises(SettingsError) as caught:
        Settings.from_run_config(config)
    assert str(caught.value) == told


@pytest.mark.parametrize("share", [0.0, 0.03, 0.9, 0.99])
def test_a_share_that_holds_out_somebody_or_nobody_by_intent_is_taken(share):
    config = {"held-out-share": share, "num-clients": 20}
    assert Settings.from_run_config(config).data.held_out_share == share


@pytest.mark.parametrize("algorithm", ["ifca", "fedrc", "fedsoft"])
def test_more_models_than_a_message_carries_are_refused(algorithm):
    def chosen(models):
        return Settings.from_run_config({"algorithm": algorithm, "num-clusters": models})

    assert chosen(MOST_CANDIDATES).clustering.num_clusters == 500
    with pytest.raises(SettingsError) as caught:
        chosen(MOST_CANDIDATES + 1)
    assert str(caught.value) == (
        f"setting num-clusters = 501: at most 500 under algorithm = {algorithm!r}, which sends "
        "all models in one message"
    )


def test_what_sends_one_model_a_message_takes_more_of_them():
    several = {name for name, entry in ALGORITHMS.items() if entry.candidates}
    for algorithm in ALGORITHMS.keys() - several:
        Settings.from_run_config({"algorithm": algorithm, "num-clusters": 1000})

"""From names in the settings to parts of the program; what is no part of the kind is refused."""

import pytest

from feddag_flwr import FedAvg, Metric
from feddag_flwr.algorithm_names import algorithm_class
from feddag_flwr.engine.runs import open_run
from feddag_flwr.models.errors import ModelError
from feddag_flwr.registries import (
    AGGREGATORS,
    METRICS,
    MODALITIES,
    OBJECTIVES,
    OBSERVERS,
    OPTIMISERS,
    POSTPROCESSORS,
    TRAINERS,
)
from feddag_flwr.registry import Registry, RegistryError, name_list
from feddag_flwr.sections import Preset, Section, prefixed, setting
from feddag_flwr.settings import CATALOGUE, OWN, Settings, SettingsError

REGISTRIES = [
    AGGREGATORS, METRICS, MODALITIES, OBJECTIVES, OBSERVERS, OPTIMISERS, POSTPROCESSORS, TRAINERS,
]  # fmt: skip


@pytest.mark.parametrize("registry", REGISTRIES, ids=lambda registry: registry.setting)
def test_what_is_listed_is_there_and_a_module_is_no_part(registry):
    for name in registry.names:
        assert registry.load(name)
    with pytest.raises(RegistryError, match=f"^setting {registry.setting} = 'os:path': module "):
        registry.load("os:path")


def test_an_algorithm_that_is_none_is_refused_by_the_settings():
    with pytest.raises(RegistryError, match=r"'os:path': module without begin, plan_round"):
        algorithm_class("os:path")
    # The cause is told where the run starts, not hidden behind a setting that it would have read.
    assert Settings.from_run_config({"algorithm": "os:path", "own-rate": 1})


def test_what_a_part_lacks_is_named():
    registry = Registry("codec", {"json": "json:loads"}, ["__call__", "decode", "encode"])
    with pytest.raises(RegistryError) as caught:
        registry.load("json")
    assert str(caught.value) == (
        "setting codec = 'json': function without decode, encode, which this setting needs"
    )


@pytest.mark.parametrize("key", ["aggregator", "observers"])
def test_names_that_are_not_listed_are_refused_before_anything_starts(key):
    with pytest.raises(SettingsError, match=f"^setting {key} = 'nope': ('nope' )?must be "):
        Settings.from_run_config({key: "nope"})


def test_names_are_parted_by_commas():
    assert name_list(" a, b:c ,,d ") == ("a", "b:c", "d")


class OwnSettings(Section, alias_generator=prefixed("own-test")):
    """Settings of an own algorithm, one of them decided by the preset."""

    pull: float = setting(Preset(0.5, 0.25), "How hard", ge=0, le=1)


class Plain(Section, alias_generator=prefixed("own-plain")):
    """A field that `setting` did not make."""

    pull: float = 0.5


class OtherPrefix(Section, alias_generator=prefixed("mine")):
    """Keys that do not say whose they are."""

    pull: float = setting(0.5, "How hard")


class Own(FedAvg):
    """An own algorithm."""

    own_settings = OwnSettings


class NoClass(FedAvg):
    """Its settings are an object."""

    own_settings = OwnSettings()


class PlainField(FedAvg):
    """Its settings hold a plain field."""

    own_settings = Plain


class Unmarked(FedAvg):
    """Its settings bear any name."""

    own_settings = OtherPrefix


class Raising(Metric):
    """Cannot be made."""

    name = arrays = update = value = check = None

    def __init__(self):
        raise OSError("no licence")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("NoClass", "must be a class of Section"),
        ("PlainField", "have pull: must be made by setting(...)"),
        ("Unmarked", "have mine-pull: keys must begin with own-"),
    ],
)
def test_own_settings_of_another_kind_are_refused(name, message):
    with pytest.raises(SettingsError) as caught:
        Settings.from_run_config({"algorithm": f"{__name__}:{name}"})
    start = f"setting algorithm = '{__name__}:{name}': its own_settings"
    assert str(caught.value).startswith(start)
    assert message in str(caught.value)


def test_a_preset_fills_in_own_settings():
    config = {"algorithm": f"{__name__}:Own"}
    assert Settings.from_run_config(config).own(OwnSettings).pull == 0.5
    paper = Settings.from_run_config({**config, "preset": "paper"})
    assert paper.own(OwnSettings).pull == 0.25
    with pytest.raises(SettingsError, match=r"setting own-test-pull = 'much': .*, or 'preset'"):
        Settings.from_run_config({**config, "own-test-pull": "much"})


def test_no_setting_of_the_project_has_the_prefix_of_own_ones():
    assert not [key for key in CATALOGUE if key.startswith(OWN)]


@pytest.fixture
def leaving(tmp_path, monkeypatch):
    (tmp_path / "leaving.py").write_text("raise SystemExit(3)\n")
    monkeypatch.syspath_prepend(tmp_path)
    return "leaving:Part"


@pytest.mark.parametrize(
    "key", ["algorithm", "aggregator", "metrics", "modality", "objective", "optimiser", "trainer",
            "observers", "postprocessors", "model"],
)  # fmt: skip
def test_a_part_that_cannot_be_imported_is_named_before_anything_starts(key, leaving, tmp_path):
    data = {"scenario": "own", "dataset": "npz", "data-dir": str(tmp_path)}
    settings = Settings.from_run_config({key: leaving, "run-dir": str(tmp_path), **data})
    with pytest.raises((RegistryError, ModelError)) as caught:
        open_run(settings)
    assert str(caught.value) == f"setting {key} = '{leaving}': SystemExit: 3"


def test_classes_that_cannot_be_made_are_refused_with_the_reason():
    registry = Registry("metrics", {})
    with pytest.raises(RegistryError, match=r"Raising': OSError: no licence$"):
        registry.make(f"{__name__}:Raising")
    with pytest.raises(RegistryError, match="'json:loads': must be a class, is a function"):
        registry.load_class("json:loads")
    with pytest.raises(RegistryError, match="Sized': the class leaves unwritten: __len__"):
        registry.make("collections.abc:Sized")

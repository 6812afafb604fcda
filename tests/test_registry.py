"""From names in the settings to parts of the program; what is no part of the kind is refused."""

import pytest

from feddag_flwr.algorithm_names import algorithm_class
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
from feddag_flwr.settings import Settings, SettingsError

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
    with pytest.raises(SettingsError, match="unknown setting 'own-rate'"):
        Settings.from_run_config({"algorithm": "os:path", "own-rate": 1})


def test_what_a_part_lacks_is_named():
    registry = Registry("codec", {"json": "json:loads"}, ["__call__", "decode", "encode"])
    with pytest.raises(RegistryError) as caught:
        registry.load("json")
    assert str(caught.value) == (
        "setting codec = 'json': function without decode, encode, which this setting needs"
    )


@pytest.mark.parametrize("key", ["aggregator", "observers"])
def test_names_that_are_not_listed_are_refused_before_anything_starts(key):
    with pytest.raises(SettingsError, match=f"^setting {key} = 'nope': 'nope' must be "):
        Settings.from_run_config({key: "nope"})


def test_names_are_parted_by_commas():
    assert name_list(" a, b:c ,,d ") == ("a", "b:c", "d")

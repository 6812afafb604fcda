"""All settings in one list, by key: which section each is in, and what is known about it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from importlib import import_module
from typing import Literal, NamedTuple, cast, get_args, get_origin

from pydantic.fields import FieldInfo

from feddag_flwr.algorithm_names import ALGORITHMS, algorithm_class
from feddag_flwr.algorithms.feddag.settings import SharingSettings
from feddag_flwr.clustering.settings import ClusteringSettings
from feddag_flwr.data.settings import DataSettings
from feddag_flwr.deployment.settings import DeploymentSettings
from feddag_flwr.engine.settings import RunSettings
from feddag_flwr.privacy.settings import PrivacySettings
from feddag_flwr.registry import RegistryError
from feddag_flwr.sections import FROM_PRESET, Above, Facts, Section, SettingsError, SettingValue
from feddag_flwr.sections.section import facts_of, is_setting
from feddag_flwr.similarity.settings import SimilaritySettings
from feddag_flwr.training.profile_settings import ProfileSettings
from feddag_flwr.training.settings import LocalTrainingSettings

# With this begin the keys of settings that algorithms of the user's own bring, and no others.
OWN = "own-"


class Setting(NamedTuple):
    """One setting.

    Attributes
    ----------
    key : str
        As a person writes it: ``local-epochs``.
    section : str
        Title of its section.
    kind : type of Section
        The section's class.
    field : FieldInfo
        Type, default, description and range.
    facts : Facts
        What else is known about it.
    """

    key: str
    section: str
    kind: type[Section]
    field: FieldInfo
    facts: Facts

    @property
    def default(self) -> SettingValue:
        """What stands in the run config where nothing is given."""
        if self.facts.preset is not None:
            return FROM_PRESET
        return cast(SettingValue, self.field.default)

    @property
    def choices(self) -> tuple[str, ...]:
        """Values allowed, where they can be listed."""
        annotation = self.field.annotation
        if get_origin(annotation) is Literal:
            return get_args(annotation)
        return ("true", "false") if annotation is bool else self.facts.choices

    @property
    def bounds(self) -> dict[str, int | float]:
        """Bounds of a number by their sign, as ``{"≥": 1, "<": 2}``."""
        return {
            sign: getattr(part, name)
            for part in self.field.metadata
            for name, sign in (("ge", "≥"), ("gt", ">"), ("le", "≤"), ("lt", "<"))
            if hasattr(part, name)
        }

    @property
    def readers(self) -> tuple[str, ...]:
        """Algorithms that read it; empty: all."""
        own = (self.section,) if self.section in ALGORITHMS else ()
        return self.facts.readers or self.kind.readers or own

    @property
    def condition(self) -> str:
        """Under which values of other settings it has an effect, in words; empty: always."""
        return "; or ".join(
            " and ".join(f"{key} {_written_of(values)}" for key, values in table.items())
            for table in self.facts.effect
        )

    def has_effect(self, values: Mapping[str, SettingValue]) -> bool:
        """Tell whether it has an effect under these values of all settings."""
        return not self.facts.effect or any(
            all(values[key] in allowed for key, allowed in table.items())
            for table in self.facts.effect
        )


def _written_of(values: tuple[SettingValue, ...] | Above) -> str:
    """Write which values a setting may have."""
    if isinstance(values, Above):
        return f"> {values.bound}"
    return f"= {' or '.join(map(_written, values))}"


def _written(value: SettingValue) -> str:
    return str(value).lower() if isinstance(value, bool) else repr(value)


def _own_sections() -> dict[str, type[Section]]:
    """Return the algorithms' own sections, by the algorithm's name."""
    sections = {}
    for name, entry in ALGORITHMS.items():
        if entry.settings:
            module, _, kind = entry.settings.partition(":")
            sections[name] = getattr(import_module(f"feddag_flwr.algorithms.{module}"), kind)
    return sections


# By title. In this order settings are listed everywhere.
SECTIONS: dict[str, type[Section]] = {
    "run": RunSettings,
    "data": DataSettings,
    "local-training": LocalTrainingSettings,
    "profile": ProfileSettings,
    "privacy": PrivacySettings,
    "similarity": SimilaritySettings,
    "clustering": ClusteringSettings,
    "sharing": SharingSettings,
    "deployment": DeploymentSettings,
    **_own_sections(),
}


def _list(sections: Mapping[str, type[Section]]) -> Iterator[Setting]:
    for section, kind in sections.items():
        for field in kind.model_fields.values():
            yield Setting(str(field.alias), section, kind, field, facts_of(field))


CATALOGUE: dict[str, Setting] = {setting.key: setting for setting in _list(SECTIONS)}


def catalogue_for(algorithm: SettingValue) -> dict[str, Setting]:
    """Return all settings under an algorithm: with its own ones, where it is the user's own.

    One that cannot be imported here, as where a run is only looked at, adds none.

    Raises
    ------
    SettingsError
        The own settings of the user's algorithm are no section, or have keys of another kind.
    """
    if not isinstance(algorithm, str) or algorithm in ALGORITHMS or algorithm.count(":") != 1:
        return CATALOGUE
    try:
        kind = algorithm_class(algorithm).own_settings
    except RegistryError:
        return CATALOGUE
    if kind is None:
        return CATALOGUE
    fault = f"setting algorithm = {algorithm!r}: its own_settings"
    if not (isinstance(kind, type) and issubclass(kind, Section)):
        raise SettingsError(f"{fault} = {kind!r}: must be a class of Section")
    if plain := [name for name, field in kind.model_fields.items() if not is_setting(field)]:
        raise SettingsError(f"{fault} have {', '.join(plain)}: must be made by setting(...)")
    own = {setting.key: setting for setting in _list({algorithm: kind})}
    if others := [key for key in own if not key.startswith(OWN)]:
        raise SettingsError(f"{fault} have {', '.join(others)}: keys must begin with {OWN}")
    return CATALOGUE | own


def keys(chosen: Callable[[Facts], bool] = lambda _: True) -> tuple[str, ...]:
    """Return the keys of all settings, or of those whose facts are chosen.

    >>> keys(lambda facts: facts.place == "run")
    ('resume', 'run-dir', 'run-name')
    """
    return tuple(key for key, each in CATALOGUE.items() if chosen(each.facts))


def defaults() -> dict[str, SettingValue]:
    """Return the run config in which nothing is given, as ``pyproject.toml`` mirrors it."""
    return {key: each.default for key, each in CATALOGUE.items()}

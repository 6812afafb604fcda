"""The settings of one run: its sections, and the flat run config that they are written as."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeVar

from feddag_flwr.algorithms.feddag.settings import SharingSettings
from feddag_flwr.clustering.settings import ClusteringSettings
from feddag_flwr.data.settings import DataSettings
from feddag_flwr.deployment.settings import DeploymentSettings
from feddag_flwr.engine.settings import RunSettings
from feddag_flwr.privacy.settings import PrivacySettings
from feddag_flwr.sections import Section, SettingsError, SettingValue
from feddag_flwr.settings.catalogue import SECTIONS, catalogue_for
from feddag_flwr.settings.contradictions import contradictions
from feddag_flwr.settings.faults import section_faults, unknown_keys
from feddag_flwr.settings.presets import filled
from feddag_flwr.settings.renamed import RENAMED_KEYS, old_names
from feddag_flwr.similarity.settings import SimilaritySettings
from feddag_flwr.training.profile_settings import ProfileSettings
from feddag_flwr.training.settings import LocalTrainingSettings

AnySection = TypeVar("AnySection", bound=Section)

# Attributes of `Settings`; the sections of the algorithms' own follow.
_ATTRIBUTES: dict[type[Section], str] = {
    RunSettings: "run",
    DataSettings: "data",
    LocalTrainingSettings: "training",
    ProfileSettings: "profile",
    PrivacySettings: "privacy",
    SimilaritySettings: "similarity",
    ClusteringSettings: "clustering",
    SharingSettings: "sharing",
    DeploymentSettings: "deployment",
}


def _own_defaults() -> tuple[Section, ...]:
    return tuple(kind() for kind in SECTIONS.values() if kind not in _ATTRIBUTES)


@dataclass(frozen=True)
class Settings:
    """The validated settings of one run; immutable.

    Attributes
    ----------
    run, data, training, profile, privacy, similarity, clustering, sharing, deployment : Section
        The sections.
    of_algorithms : tuple of Section
        The algorithms' own; `own` finds one.

    Raises
    ------
    SettingsError
        Settings of different sections contradict each other; one line for each fault.

    Examples
    --------
    >>> settings = Settings.from_run_config({"local-epochs": 5})
    >>> settings.training.local_epochs, settings.run.num_clients
    (5, 20)
    """

    run: RunSettings = field(default_factory=RunSettings)
    data: DataSettings = field(default_factory=DataSettings)
    training: LocalTrainingSettings = field(default_factory=LocalTrainingSettings)
    profile: ProfileSettings = field(default_factory=ProfileSettings)
    privacy: PrivacySettings = field(default_factory=PrivacySettings)
    similarity: SimilaritySettings = field(default_factory=SimilaritySettings)
    clustering: ClusteringSettings = field(default_factory=ClusteringSettings)
    sharing: SharingSettings = field(default_factory=SharingSettings)
    deployment: DeploymentSettings = field(default_factory=DeploymentSettings)
    of_algorithms: tuple[Section, ...] = field(default_factory=_own_defaults)

    def __post_init__(self) -> None:
        if faults := list(contradictions(self)):
            raise SettingsError("\n".join(f"setting {each}" for each in faults))

    def own(self, kind: type[AnySection]) -> AnySection:
        """Return an algorithm's own settings: ``settings.own(FedProxSettings).mu``.

        Raises
        ------
        KeyError
            No algorithm has such settings.
        """
        for section in self.of_algorithms:
            if isinstance(section, kind):
                return section
        raise KeyError(kind.__name__)

    @classmethod
    def from_run_config(cls, run_config: Mapping[str, SettingValue]) -> Settings:
        """Validate a Flower run config.

        Parameters
        ----------
        run_config : mapping
            Setting names with hyphens to values; settings left out take their defaults.

        Returns
        -------
        Settings
            With what ``preset`` says where a setting is ``"preset"``.

        Raises
        ------
        SettingsError
            One line for each fault: the key, the value it had, and what is allowed.
        """
        catalogue = catalogue_for(run_config.get("algorithm", ""))
        config = filled({k: v for k, v in run_config.items() if k not in RENAMED_KEYS}, catalogue)
        by_section: dict[type[Section], dict[str, SettingValue]] = {
            setting.kind: {} for setting in catalogue.values()
        }
        for key, value in config.items():
            if key in catalogue:
                by_section[catalogue[key].kind][key] = value
        faults = old_names(run_config) + unknown_keys(config, catalogue)
        told = {fault.partition(":")[0] for fault in faults}
        for kind, values in by_section.items():
            told_here = section_faults(kind, values, catalogue)
            faults += [fault for fault in told_here if fault.partition(":")[0] not in told]
        if faults:
            raise SettingsError("\n".join(faults))
        sections = {kind: kind.model_validate(values) for kind, values in by_section.items()}
        own = tuple(section for kind, section in sections.items() if kind not in _ATTRIBUTES)
        named = {name: sections[kind] for kind, name in _ATTRIBUTES.items()}
        return cls(**named, of_algorithms=own)  # type: ignore[arg-type]  # each of its own kind

    def to_run_config(self) -> dict[str, SettingValue]:
        """Return all settings under their keys, what the preset decided among them."""
        values: dict[str, SettingValue] = {}
        for section in (
            *(getattr(self, name) for name in _ATTRIBUTES.values()),
            *self.of_algorithms,
        ):
            values |= section.values()
        return values

    def changed(self, changes: Mapping[str, SettingValue]) -> Settings:
        """Return the settings with other values under some keys, validated anew."""
        return self.from_run_config({**self.to_run_config(), **changes})

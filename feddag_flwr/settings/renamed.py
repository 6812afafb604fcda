"""Settings whose key or value was another once: who gives the old one is told the new one."""

from __future__ import annotations

from collections.abc import Mapping

from feddag_flwr.sections import SettingsError, SettingValue

RENAMED_KEYS = {
    "source": "dataset",
    "sources": "teacher-clusters",
    "combine-sources": "combine-teachers",
    "wave-size": "max-in-flight",
    "regroup-share": "recluster-share",
    "unseen-share": "held-out-share",
    "fine-tune-epochs": "personalisation-epochs",
}
RENAMED_VALUES = {("classifier-training", "halves"): "separate"}


def old_names(config: Mapping[str, SettingValue]) -> list[str]:
    """Say of each old key and value what it is called now."""
    faults = [
        f"setting {old} = {config[old]!r}: the setting is called {new!r} now"
        for old, new in RENAMED_KEYS.items()
        if old in config
    ]
    faults += [
        f"setting {key} = {old!r}: the value is called {new!r} now"
        for (key, old), new in RENAMED_VALUES.items()
        if config.get(key) == old
    ]
    return faults


def refuse_old_names(config: Mapping[str, SettingValue], origin: str = "") -> None:
    """Refuse a run config that has old keys or values.

    Parameters
    ----------
    config : mapping
        Keys to values.
    origin : str, optional
        Where it was read, for messages: a file.

    Raises
    ------
    SettingsError
        One line for each fault: the old name and the new one.
    """
    if faults := old_names(config):
        raise SettingsError("\n".join(f"{origin}: {each}" if origin else each for each in faults))


def under_new_names(config: Mapping[str, SettingValue]) -> dict[str, SettingValue]:
    """Return what a run that is over recorded of its settings, under today's names."""
    return {
        RENAMED_KEYS.get(key, key): RENAMED_VALUES.get((key, str(value)), value)
        for key, value in config.items()
    }

"""Whether a run may go on under other settings than it began with."""

from __future__ import annotations

from collections.abc import Mapping

from feddag_flwr.settings import Settings, SettingsError, SettingValue, keys, refuse_old_names


def lasting_settings(settings: Settings) -> dict[str, SettingValue]:
    """Return the settings that belong into a checkpoint: all but those that name its own place.

    Equal runs have equal checkpoints, wherever they are.
    """
    places = keys(lambda facts: facts.place == "run")
    return {key: value for key, value in settings.to_run_config().items() if key not in places}


def check_continuation(
    before: Mapping[str, SettingValue], now: Mapping[str, SettingValue], server_round: int
) -> None:
    """Refuse settings under which a resumed run would not be the run that was stopped.

    Parameters
    ----------
    before : mapping
        Settings of the checkpoint; one that did not exist then counts as its default.
    now : mapping
        Settings of the run that is to go on.
    server_round : int
        Round that the checkpoint reached.

    Raises
    ------
    SettingsError
        One line for each fault: the key and both values, or both numbers of rounds; or an old
        name among `before`, and the new one.
    """
    refuse_old_names(before, "the run to resume")
    defaults = Settings().to_run_config()
    may_differ = set(keys(lambda facts: facts.may_differ))
    faults = []
    for key in sorted((before.keys() | now.keys()) - may_differ):
        old, new = before.get(key, defaults.get(key)), now.get(key, defaults.get(key))
        if old != new:
            faults.append(f"setting {key} = {new!r}: the run to resume has {old!r}")
    rounds = int(now.get("num-rounds", defaults["num-rounds"]))
    if rounds < server_round:
        faults.append(f"setting num-rounds = {rounds}: the run to resume has done {server_round}")
    planned = int(before.get("num-rounds", defaults["num-rounds"]))
    if now.get("training-epsilon", 0.0) and rounds != planned:
        faults.append(
            f"setting num-rounds = {rounds}: the run to resume has {planned}, for which its "
            "training-epsilon is"
        )
    if faults:
        raise SettingsError("\n".join(faults))

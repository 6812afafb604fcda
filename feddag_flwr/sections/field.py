"""One setting: its default, what it means, and what is to be known about it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal, NamedTuple

from pydantic import Field

# What a preset decides has this as its default in the run config; never once a run has begun.
FROM_PRESET = "preset"

# What a setting names the place of: a run's files, or the data's.
Place = Literal["", "run", "data"]


@dataclass(frozen=True)
class Above:
    """Numbers above a bound."""

    bound: int

    def __contains__(self, value: object) -> bool:
        return isinstance(value, int | float) and value > self.bound


# Settings that must all have one of these values; any of several such tables is enough.
Effect = tuple[Mapping[str, tuple[bool | int | float | str, ...] | Above], ...]


class Preset(NamedTuple):
    """Values of a setting by preset; in the run config its default is ``"preset"``.

    Attributes
    ----------
    own : str
        Ours.
    paper : str
        The paper's.
    """

    own: str
    paper: str


@dataclass(frozen=True)
class Facts:
    """What is known about a setting besides its type, default and range.

    Attributes
    ----------
    symbol, unit : str
        The paper's symbol; the unit.
    choices : tuple of str
        Values allowed, where the type does not say them.
    advanced : bool
        Whether most users need not know it.
    preset : Preset or None
        Values by preset.
    place : {"", "run", "data"}
        Whether it says only where a run's files or the data are.
    may_differ : bool
        Whether it may differ when a run goes on: it decides where, when and how long something
        happens, never what comes of it.
    machine : bool
        Whether it is what a machine offers, not what is computed.
    shapes_data : bool
        Whether it is part of what decides which client holds which images.
    alters_own : bool
        Whether it would change clients' own data (scenario own), which is taken as it is.
    readers : tuple of str
        Algorithms that read it; empty: all.
    effect : Effect
        Under which values of other settings it has an effect; empty: always.
    """

    symbol: str = ""
    unit: str = ""
    choices: tuple[str, ...] = ()
    advanced: bool = False
    preset: Preset | None = None
    place: Place = ""
    may_differ: bool = False
    machine: bool = False
    shapes_data: bool = False
    alters_own: bool = False
    readers: tuple[str, ...] = ()
    effect: Effect = ()


_FACTS = frozenset(each.name for each in fields(Facts)) - {"preset"}


def setting(
    default: bool | int | float | str | Preset,
    description: str,
    **more: Any,  # noqa: ANN401
) -> Any:  # noqa: ANN401 - pydantic fields are typed so
    """Make a field of a section.

    Parameters
    ----------
    default : bool, int, float, str or Preset
        Its default; of a preset, ours stands once a run has begun.
    description : str
        What it means.
    **more
        Fields of `Facts`, and pydantic's bounds. What names a place may differ when a run goes on,
        and is the machine's.
    """
    known = {name: more.pop(name) for name in _FACTS & more.keys()}
    if known.get("place"):
        known |= {"may_differ": True, "machine": True}
    preset = default if isinstance(default, Preset) else None
    return Field(
        default=preset.own if preset is not None else default,
        description=description,
        json_schema_extra={"facts": Facts(**known, preset=preset)},  # type: ignore[dict-item]
        **more,
    )


def advanced(
    default: bool | int | float | str | Preset,
    description: str,
    **more: Any,  # noqa: ANN401
) -> Any:  # noqa: ANN401
    """Make a `setting` that most users need not know."""
    return setting(default, description, advanced=True, **more)

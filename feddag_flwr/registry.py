"""From a name in the settings to the part of the program that bears it."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import Generic, TypeVar, cast

T = TypeVar("T")


class RegistryError(ValueError):
    """A setting names nothing that can be used; says what is allowed."""


class Registry(Generic[T]):
    """The parts of one kind, imported when they are first asked for.

    Beside the names listed, ``package.module:attribute`` names a part of the user's own: nothing
    here has to be touched for it.

    Parameters
    ----------
    setting : str
        Name of the setting whose values these are, for messages.
    entries : mapping of str to str
        From a name to ``package.module:attribute``.
    needs : sequence of str
        Attributes without which something is no part of the kind.

    Examples
    --------
    >>> registry = Registry("codec", {"json": "json:loads"})
    >>> registry.load("json")("[1]")
    [1]
    """

    def __init__(self, setting: str, entries: Mapping[str, str], needs: Sequence[str] = ()) -> None:
        self.setting = setting
        self._entries = dict(entries)
        self._needs = tuple(needs)

    @property
    def names(self) -> tuple[str, ...]:
        """Names listed, in their order."""
        return tuple(self._entries)

    @property
    def allowed(self) -> str:
        """What a name may be, in words."""
        return f"{', '.join(self._entries)} or package.module:attribute"

    def check(self, name: str) -> str:
        """Return `name` if it is listed or may be the user's own; else raise `RegistryError`."""
        if name in self._entries or name.count(":") == 1:
            return name
        raise RegistryError(f"setting {self.setting} = {name!r}: must be {self.allowed}")

    def check_asked(self, name: str, own: str) -> str:
        """Return a name that came in a message, if it is listed or what the run's settings say.

        Else raise `RegistryError`: nobody who sends messages can have other modules imported.
        """
        if name in self._entries or name == own:
            return name
        raise RegistryError(
            f"{self.setting} = {name!r} is asked for: must be {', '.join(self._entries)}, or what "
            f"the run's setting {self.setting} says, {own!r}"
        )

    def load(self, name: str) -> T:
        """Import the part of a name; a `RegistryError` says why that fails, or what it lacks."""
        module_name, _, attribute = self._entries.get(self.check(name), name).partition(":")
        try:
            part = getattr(import_module(module_name), attribute)
        except (Exception, SystemExit) as error:  # whatever importing foreign code raises
            raise self._refusal(name, f"{type(error).__name__}: {error}") from error
        if lacking := [need for need in self._needs if not hasattr(part, need)]:
            raise self._refusal(
                name,
                f"{type(part).__name__} without {', '.join(lacking)}, which this setting needs",
            )
        if inspect.isabstract(part):
            unwritten = ", ".join(sorted(part.__abstractmethods__))
            raise self._refusal(name, f"the class leaves unwritten: {unwritten}")
        return cast(T, part)

    def load_class(self, name: str) -> type[T]:
        """Import what must be a class; a `RegistryError` says why that fails."""
        part = self.load(name)
        if not isinstance(part, type):
            raise self._refusal(name, f"must be a class, is a {type(part).__name__}")
        return part

    def make(self, name: str) -> T:
        """Import a class and make one of it; a `RegistryError` says why that fails."""
        try:
            return self.load_class(name)()
        except RegistryError:
            raise
        except Exception as error:  # whatever foreign code raises
            raise self._refusal(name, f"{type(error).__name__}: {error}") from error

    def _refusal(self, name: str, why: str) -> RegistryError:
        return RegistryError(f"setting {self.setting} = {name!r}: {why}")


def name_list(text: str) -> tuple[str, ...]:
    """Return the names of a setting that lists some, separated by commas."""
    return tuple(name for part in text.split(",") if (name := part.strip()))

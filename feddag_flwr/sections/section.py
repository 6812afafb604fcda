"""A section: the settings of one part of the program, typed and immutable."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, cast

from pydantic import BaseModel, ConfigDict
from pydantic.fields import FieldInfo

from feddag_flwr.sections.field import Facts

SettingValue = bool | int | float | str


def prefixed(prefix: str) -> Callable[[str], str]:
    """Return what makes a field's key: ``eps1`` of the prefix ``cfl`` is ``cfl-eps1``.

    An underscore at the end, as in ``lambda_``, is no part of the key.
    """
    return lambda name: f"{prefix}-{name.rstrip('_').replace('_', '-')}"


class Section(BaseModel):
    """Base of all sections.

    Fields are written with hyphens (``local-epochs``) wherever a person writes them.

    Attributes
    ----------
    readers : tuple of str
        Algorithms that read the section's settings, where a field does not say its own; empty: all.
    """

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        strict=True,
        allow_inf_nan=False,
        alias_generator=lambda name: name.replace("_", "-"),
        populate_by_name=True,
        validate_default=True,
    )

    readers: ClassVar[tuple[str, ...]] = ()

    def values(self) -> dict[str, SettingValue]:
        """Return the section's settings under their hyphenated keys."""
        return self.model_dump(by_alias=True)


def is_setting(field: FieldInfo) -> bool:
    """Tell whether a field was made by `setting`."""
    extra = field.json_schema_extra
    return isinstance(extra, dict) and isinstance(extra.get("facts"), Facts)


def facts_of(field: FieldInfo) -> Facts:
    """Return what `setting` noted of a field."""
    return cast(Facts, cast(dict[str, Any], field.json_schema_extra)["facts"])

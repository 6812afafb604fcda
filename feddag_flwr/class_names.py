"""Names of classes, by which clients' data is matched: one form each, and which are alike."""

from __future__ import annotations

import logging
import unicodedata
from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence

logger = logging.getLogger("flwr")


def class_name(text: str) -> str:
    """Return a class's name in Unicode's form NFC: file systems and editors write others."""
    return unicodedata.normalize("NFC", text)


def unknown_classes(names: Iterable[str], class_names: Collection[str]) -> list[str]:
    """Return those of a client's classes that the federation's `class_names` lack.

    Names are the same where their Unicode forms NFC are.
    """
    known = {class_name(name) for name in class_names}
    return [name for name in names if class_name(name) not in known]


def similar_names(names: Sequence[str], others: Iterable[str] = ()) -> list[str]:
    """Say which names differ from each other, or from `others`, in writing only.

    In case, spaces or Unicode form: classes are matched by name, so such names are different
    classes, unless NFC makes them equal.
    """
    alike: dict[str, list[str]] = defaultdict(list)
    for name in dict.fromkeys([*names, *others]):
        alike["".join(unicodedata.normalize("NFKC", name).casefold().split())].append(name)
    return [
        " and ".join(map(_visible, spellings)) + " differ in case, spaces or Unicode form only"
        for spellings in alike.values()
        if len(spellings) > 1 and set(spellings) & set(names)
    ]


def _visible(name: str) -> str:
    """Quote a name; escaped where two forms of it would look alike."""
    normal = name.isascii() or unicodedata.is_normalized("NFKC", name)
    return repr(name) if normal else ascii(name)


def in_other_writing(names: Sequence[str], class_names: Iterable[str]) -> str:
    """Return the end of a message about unknown classes: which are known in other writing."""
    return "".join(f"; {hint}" for hint in similar_names(names, class_names))


def warn_of_similar_names(class_names: Sequence[str]) -> None:
    """Log which classes of a federation differ in writing only: they may be meant as one."""
    for hint in similar_names(class_names):
        logger.warning("%s, and are different classes here", hint)

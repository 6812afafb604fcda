"""What an attack is: trials, and figures that come of one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from feddag_lab.attacks.image_pool import ImagePool

# What one trial came to; None where the attack had nothing to go by.
Figures = Mapping[str, float | int | str | None]


@dataclass(frozen=True)
class AttackTrial:
    """One measurement.

    Attributes
    ----------
    case : dict of str to str or number
        What varies from trial to trial beside the defence: images of a client, local epochs, ..
    defence : str
        A name of `feddag_lab.attacks.defences.DEFENCES`.
    """

    attack: str
    dataset: str
    defence: str
    seed: int
    case: dict[str, str | int | float] = field(default_factory=dict)


class Attack(Protocol):
    """One kind of attack.

    Attributes
    ----------
    name : str
        What the command line calls it.
    title : str
        What its table says above it.
    formats : mapping of str to str
        The figures of its table and how they are written, ``.2f`` for instance.
    """

    name: str
    title: str
    formats: Mapping[str, str]

    def trials(
        self, dataset: str, seeds: Iterable[int], *, smallest: bool
    ) -> Sequence[AttackTrial]:
        """Return what is measured on a data set; with `smallest` one quick trial a defence."""

    def run(self, trial: AttackTrial, pool: ImagePool) -> Figures:
        """Attack, and compare with the truth."""

"""All attacks, by the names that the command line has for them."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from feddag_lab.attacks.attack import Attack
from feddag_lab.attacks.classes import HeldClasses
from feddag_lab.attacks.inversion import Inversion
from feddag_lab.attacks.membership import Membership
from feddag_lab.attacks.profile_images import ProfileImages

# A new attack is a line here, and its name in `feddag_lab.attacks.cli.NAMES`.
ATTACKS: Mapping[str, Attack] = {
    attack.name: attack for attack in (ProfileImages(), Inversion(), Membership(), HeldClasses())
}

# Networks are small: more threads make a trial slower, and figures depend on their number.
torch.set_num_threads(1)

"""Images from the principal vectors of a profile."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from feddag_flwr.seeds import generator
from feddag_flwr.training.private_profile import projection_of
from feddag_flwr.training.profile import sample_vectors
from feddag_lab.attacks.attack import AttackTrial, Figures
from feddag_lab.attacks.cone import extreme_rays
from feddag_lab.attacks.defences import DEFENCES, NONE, ON_PROFILES
from feddag_lab.attacks.image_pool import Drawn, ImagePool, pixels_of
from feddag_lab.attacks.likeness import cosines, fitted, ssim
from feddag_lab.attacks.victim import Victim, client_with

SIZES = (1, 2, 3, 5, 10, 20, 50, 100)
# Images of a class that the client does not have, among which one of its own is to be told.
CROWD = 500


class ProfileImages:
    """Takes the vectors of each class, and the extreme rays of their span, as pictures.

    Pictures are set against the client's images and against as many others of the class: the
    nearest of a set is nearer, the larger the set is.
    """

    name = "profile-images"
    title = "Images from the principal vectors of a profile"
    formats: Mapping[str, str] = {
        "shown": ".0%", "cosine": ".2f", "cosine_others": ".2f", "ssim": ".2f",
        "ssim_others": ".2f", "told": ".0%", "told_by_chance": ".1%",
    }  # fmt: skip

    def trials(
        self, dataset: str, seeds: Iterable[int], *, smallest: bool
    ) -> Sequence[AttackTrial]:
        """Vary images a class; sizes for which a class has too few others are passed over."""
        sizes = SIZES[:1] if smallest else SIZES
        return [
            AttackTrial(self.name, dataset, defence, seed, {"images": images})
            for defence in (NONE, *ON_PROFILES)
            for images in sizes
            for seed in seeds
        ]

    def run(self, trial: AttackTrial, pool: ImagePool) -> Figures:
        """Make a client with so many images of each class, and look at its profile."""
        images = int(trial.case["images"])
        if 2 * images > pool.least_of_a_class():
            return {"skipped": "too few images of a class"}
        drawn = pool.draw_of_each(images, generator(trial.seed, f"images a class {images}"))
        config = {**pool.config, "seed": trial.seed, "warmup-rounds": 1, "warmup-epochs": 1}
        config |= DEFENCES[trial.defence]
        with client_with(drawn.own, pool.class_names, pool.scale, config) as victim:
            profile = victim.profile()
            projection = projection_for(victim)
        found = [
            _best(profile.vectors[profile.vector_classes == label].astype(np.float64),
                  projection, drawn, label, pool.shape, trial.seed)
            for label in range(pool.num_classes)
        ]  # fmt: skip
        told = [each for each in found if each is not None]
        means = (
            {key: float(np.mean([each[key] for each in told])) for key in told[0]} if told else {}
        )
        return {"shown": len(told) / len(found), **(means or dict.fromkeys(FIGURES))}


FIGURES = ("cosine", "cosine_others", "ssim", "ssim_others", "told", "told_by_chance")


def projection_for(victim: Victim) -> NDArray[np.float64] | None:
    """Return the random projection of private profiles, which the server can draw, too."""
    if not victim.settings.privacy.on:
        return None
    view = sample_vectors(victim.train_part.samples, victim.settings).view
    return projection_of(view, victim.settings)


def _best(
    vectors: NDArray[np.float64],
    projection: NDArray[np.float64] | None,
    drawn: Drawn,
    label: int,
    shape: tuple[int, ...],
    seed: int,
) -> dict[str, Any] | None:
    """Compare the pictures of a class with the client's images and others; None: there are none."""
    if not len(vectors):
        return None
    own = pixels_of(drawn.own.select(np.flatnonzero(drawn.own.labels == label)))
    others = drawn.others_of(label)
    pictures = vectors if projection is None else vectors @ np.linalg.pinv(projection).T
    if projection is None:
        rays = extreme_rays(vectors, generator(seed, f"directions {label}"))
        pictures = np.concatenate([vectors, rays])
    crowd = others[:CROWD]
    near, far = cosines(pictures, own).max(axis=1), cosines(pictures, crowd).max(axis=1)
    return {
        **_nearest(pictures, own, shape, ""),
        **_nearest(pictures, others[: len(own)], shape, "_others"),
        "told": float((near > far).mean()),
        "told_by_chance": len(own) / (len(own) + len(crowd)),
    }


def _nearest(
    pictures: NDArray[np.float64], images: NDArray[np.float64], shape: tuple[int, ...], ending: str
) -> dict[str, float]:
    """Return cosine and SSIM of the pair that is nearest of all."""
    angles = cosines(pictures, images)
    picture, image = np.unravel_index(int(angles.argmax()), angles.shape)
    likeness = ssim(fitted(pictures[picture], images[image]), images[image], shape)
    return {f"cosine{ending}": float(angles.max()), f"ssim{ending}": likeness}

"""Weaknesses of data that can be read: each a sentence with names and numbers."""

import hashlib
from collections.abc import Collection, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from feddag_flwr.class_names import similar_names
from feddag_flwr.data.client import ClientData
from feddag_flwr.data.mapped import chunks_of
from feddag_flwr.data.samples import LabelledSamples
from feddag_flwr.data_check.columns import weak_columns
from feddag_flwr.data_check.copies import find_copies
from feddag_flwr.data_check.words import listed, plural, several
from feddag_flwr.modalities import load_modality
from feddag_flwr.profile import subspace_size
from feddag_flwr.settings import Settings

# Times the smallest class that the largest may be.
MOST_IMBALANCE = 10
# A brightest pixel below this share of the scale: the images were probably scaled twice.
LEAST_BRIGHTNESS = 0.1
# Images of a class up to which its vectors show single ones (docs/private-profile.md).
FEW_IMAGES = 5

Origins = tuple[Sequence[str], Sequence[str]]


def find_weaknesses(data: ClientData, origins: Origins, settings: Settings) -> list[str]:
    """Look for what deserves a look.

    `origins` say what to call each training and each test sample.
    """
    noun = load_modality(settings.data.modality).noun
    counts = np.bincount(data.train.labels, minlength=len(data.class_names))
    return [
        *_small_classes(data.class_names, counts, settings, noun),
        *_imbalance(data.class_names, counts, noun),
        *_untested(data, counts, noun),
        *(_of_images(data, origins) if settings.data.modality == "image" else ()),
        *(weak_columns(data) if settings.data.modality == "tabular" else ()),
        *_duplicates(data, origins, noun),
        *(f"class names {hint}" for hint in similar_names(data.class_names)),
    ]


def _of_images(data: ClientData, origins: Origins) -> Iterator[str]:
    yield from _pixel_range(data.train)
    yield from _constant_images(data, origins)


def _small_classes(
    names: Sequence[str], counts: NDArray[np.int64], settings: Settings, noun: str
) -> Iterator[str]:
    if settings.privacy.profile_on:  # noise hides what is few
        return
    held = np.flatnonzero(counts).tolist()
    kept_back = [label for label in held if counts[label] < settings.profile.min_subspace_samples]
    if kept_back:
        yield (
            f"classes with fewer than min-subspace-samples = "
            f"{settings.profile.min_subspace_samples} training {plural(noun)} send no principal "
            "vectors, and seem unlike everybody's: "
            + listed([f"{names[label]!r} ({counts[label]})" for label in kept_back])
        )
    bare = [
        label
        for label in held
        if label not in kept_back
        and counts[label] <= subspace_size(settings.profile.subspace_size, int(counts[label]))
    ]
    if bare:
        yield (
            f"classes with no more training {plural(noun)} than principal vectors, from which the "
            f"server can put the {plural(noun)} together again (one {noun}'s vector is that "
            f"{noun} up to {'brightness' if noun == 'image' else 'its scale'}): "
            + listed([f"{names[label]!r} ({counts[label]})" for label in bare])
            + f"; min-subspace-samples = {int(counts[bare].max()) + 1} would keep them back, "
            "profile-epsilon above 0 would add noise to all"
        )
    few = [
        label
        for label in held
        if label not in kept_back + bare and noun == "image" and counts[label] <= FEW_IMAGES
    ]
    if few:
        yield (
            f"classes of {FEW_IMAGES} training images at most, single ones of which their "
            "principal vectors often show: "
            + listed([f"{names[label]!r} ({counts[label]})" for label in few])
            + f"; min-subspace-samples = {FEW_IMAGES + 1} would keep them back"
        )


def _imbalance(names: Sequence[str], counts: NDArray[np.int64], noun: str) -> Iterator[str]:
    held = np.flatnonzero(counts)
    least, most = held[counts[held].argmin()], held[counts[held].argmax()]
    if counts[most] > MOST_IMBALANCE * counts[least]:
        yield (
            f"heavy imbalance: {counts[most]:,} training {plural(noun)} of {names[most]!r}, "
            f"{counts[least]:,} of {names[least]!r}"
        )


def _untested(data: ClientData, counts: NDArray[np.int64], noun: str) -> Iterator[str]:
    tested = np.bincount(data.test.labels, minlength=len(data.class_names))
    untested = [data.class_names[label] for label in np.flatnonzero((counts > 0) & (tested == 0))]
    if untested:
        yield f"classes without a test {noun} are never judged: {listed(untested)}"
    untrained = [data.class_names[label] for label in np.flatnonzero((counts == 0) & (tested > 0))]
    if untrained:
        yield (f"classes with test {plural(noun)} only cannot be learned here: {listed(untrained)}")


def _pixel_range(train: LabelledSamples) -> Iterator[str]:
    highest = float(train.samples.max())
    whole = train.samples.dtype == np.uint8
    if 0 < highest < LEAST_BRIGHTNESS * (255 if whole else 1):
        scale = "0 to 255" if whole else "0 to 1"
        yield (
            f"very dark: the brightest training pixel is {highest:g} on a scale of {scale}; "
            "were the images scaled twice?"
        )


def _constant_images(data: ClientData, origins: Origins) -> Iterator[str]:
    plain = []
    for part, names in zip((data.train, data.test), origins, strict=True):
        for chunk in chunks_of(len(part)):
            flat = part.samples[chunk].reshape(chunk.stop - chunk.start, -1)
            constant = np.flatnonzero((flat == flat[:, :1]).all(axis=1))
            plain += [names[chunk.start + index] for index in constant.tolist()]
    if plain:
        yield f"{several(len(plain), 'image')} of one grey level or colour only: {listed(plain)}"


def _duplicates(data: ClientData, origins: Origins, noun: str) -> Iterator[str]:
    """Find test samples that are trained on, and equal training samples of different classes."""
    first: dict[bytes, int] = {}
    torn = []
    for index, digest in enumerate(_digests(data.train)):
        earlier = first.setdefault(digest, index)
        if data.train.labels[earlier] != data.train.labels[index]:
            torn.append(f"{origins[0][earlier]} = {origins[0][index]}")
    same = {
        index: first[digest] for index, digest in enumerate(_digests(data.test)) if digest in first
    }
    shared = [f"{origins[0][trained]} = {origins[1][tested]}" for tested, trained in same.items()]
    if shared:
        yield (
            f"{several(len(shared), f'test {noun}')} of {len(data.test):,} also in the training "
            f"part, so accuracy will look better than it is: {listed(shared)}"
        )
    if noun == "image":
        yield from _copies(data, origins, same.keys())
    if torn:
        yield (
            f"{several(len(torn), f'training {noun}')} equal to one of another class: "
            + listed(torn)
        )


def _copies(data: ClientData, origins: Origins, same: Collection[int]) -> Iterator[str]:
    """Find test images that are training images, changed; without those that are the `same`."""
    copies = [
        f"{origins[0][trained]} and {origins[1][tested]}"
        for trained, tested in find_copies(data.train, data.test)
        if tested not in same
    ]
    if copies:
        yield (
            f"{several(len(copies), 'test image')} of {len(data.test):,} seem to be copies of "
            "training images, of another size or encoded anew, so accuracy will look better than "
            f"it is: {listed(copies)}"
        )


def _digests(part: LabelledSamples) -> Iterator[bytes]:
    for sample in part.samples:
        yield hashlib.blake2b(sample.tobytes(), digest_size=16).digest()

"""Private profiles: are the groups found, and are images recovered? Without training.

`groups` deals a data set out to clients as benchmarks/groups.py does, makes profiles with and
without noise, and clusters. `images` recovers images from profiles of clients with few of them. A
record a line is appended to OUTPUT; trials that are there already are passed over:

    python benchmarks/private_profile.py groups --fashion-mnist DIR --seeds 1 3
    python benchmarks/private_profile.py images --fashion-mnist DIR --seeds 1 3
    python benchmarks/private_profile.py report

Noise is drawn by the trial's seed here, so that a trial can be repeated; clients never do so.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import groups
import numpy as np
import numpy.typing as npt
import torch
from records import Records
from rich.console import Console
from rich.table import Table
from sklearn.metrics import adjusted_rand_score
from torchmetrics.functional.image import structural_similarity_index_measure

from feddag_flwr.data.datasets import load_dataset
from feddag_flwr.data.samples import LabelledSamples
from feddag_flwr.privacy.budget import ProfileBudget
from feddag_flwr.privacy.noise import GaussianNoise
from feddag_flwr.settings import Settings
from feddag_flwr.similarity.class_subspaces import ClassSubspaces
from feddag_flwr.similarity.group_tree import GroupTree
from feddag_flwr.similarity.proximity import pack_bases
from feddag_flwr.training.private_profile import class_moments, private_profile, projection_of
from feddag_flwr.training.profile import class_subspaces, sample_vectors

OUTPUT = Path(__file__).resolve().parent.parent / "docs" / "results" / "private-profile"
# What a private profile needs besides its epsilon.
PRIVATE: dict[str, Any] = {
    "initialisation": "random", "secondary-start": "random", "standardise": False,
    "drift-threshold": 0.0,
}  # fmt: skip
EPSILONS = (0.0, 8.0, 3.0, 1.0)  # 0: no noise
HELD = {"I 20 %": 2, "I 30 %": 3}  # classes of a client; of other scenarios all ten
CROWD = 1000  # images of the same class that nobody holds, among whom one is to be recognised


@dataclass(frozen=True)
class GroupTrial:
    """One clustering; `images` is the mean number of a client's training images of a class."""

    dataset: str
    scenario: str
    alpha: float
    images: int
    clients: int
    epsilon: float
    seed: int


@dataclass(frozen=True)
class ImageTrial:
    """One client with so many images of each class, whose profile is looked at.

    `seen` is "sent", what a profile tells, or "noisy", the noisy second moments themselves: what
    the promise is about, of which a profile tells a part.
    """

    images: int
    epsilon: float
    seen: str
    seed: int


def group_trials(seeds: range) -> list[GroupTrial]:
    """Return all clusterings: by epsilon; of three seeds fewer images, uneven ones, digits."""
    scenarios = ("I 20 %", "I 30 %", "II", "rotations")
    usual = [
        GroupTrial("fashion-mnist", scenario, 1.0, 100, 60, epsilon, seed)
        for scenario in scenarios
        for epsilon in EPSILONS
        for seed in seeds
    ]
    fewer = [
        GroupTrial("fashion-mnist", scenario, 1.0, images, 60, 3.0, seed)
        for scenario in scenarios
        for images in (10, 30)
        for seed in seeds[:3]
    ]
    uneven = [
        GroupTrial("fashion-mnist", scenario, 0.25, 100, 60, epsilon, seed)
        for scenario in scenarios
        for epsilon in (0.0, 3.0)
        for seed in seeds[:3]
    ]
    one_kind = [
        GroupTrial("fashion-mnist", "one kind", 1.0, 100, 60, epsilon, seed)
        for epsilon in (0.0, 3.0)
        for seed in seeds
    ]
    digits = [
        GroupTrial("digits", scenario, 1.0, images, 30, epsilon, seed)
        for scenario, images in (("I 20 %", 22), ("I 30 %", 15), ("II", 4), ("rotations", 4))
        for epsilon in (0.0, 3.0)
        for seed in seeds[:3]
    ]
    return usual + fewer + uneven + one_kind + digits


def image_trials(seeds: range) -> list[ImageTrial]:
    """Return all recoveries."""
    return [
        ImageTrial(images, epsilon, seen, seed)
        for images in (1, 2, 3, 4, 5, 10, 30, 100)
        for epsilon, seen in ((0.0, "sent"), (3.0, "sent"), (3.0, "noisy"), (8.0, "noisy"))
        for seed in seeds
    ]


def noise_of(seed: int, client: int) -> GaussianNoise:
    """Return noise that a trial draws again."""
    return GaussianNoise(np.random.default_rng([seed, client, 7]).bytes)


def find_groups(trial: GroupTrial, paths: Mapping[str, str]) -> dict[str, Any]:
    """Deal the data out, make profiles, cluster."""
    each = trial.images * HELD.get(trial.scenario, 10)
    dealt = groups.Trial(
        trial.dataset, trial.scenario, trial.alpha, str(each), trial.clients, trial.seed
    )
    settings = groups.settings_of(dealt, paths)
    if trial.epsilon:
        settings = settings.changed({**PRIVATE, "profile-epsilon": trial.epsilon})
    vectors, classes, counts, true, held = [], [], [], [], []
    for client, (data, group, number) in enumerate(groups.clients_of(dealt, settings)):
        of_client, of_rows, told = _profile(data, settings, number, trial.seed, client)
        vectors.append(of_client)
        classes.append(of_rows)
        counts.append(told)
        true.append(group)
        held.append(np.bincount(data.labels, minlength=number))
    table, has = np.array(counts), np.array(held) > 0
    angle = settings.similarity.angle
    profiles = ClassSubspaces(pack_bases(vectors, classes, table.shape[1]), table, angle)
    tree, leaves = GroupTree.grow(profiles, settings.similarity.false_positive_rate)
    return {
        "groups": len(set(true)),
        "clusters": len(set(leaves.tolist())),
        "rand_index": float(adjusted_rand_score(true, leaves)),
        "chances": tree.root.chances,
        "classes_held": int(has.sum()),
        "told_absent": int((has & (table == 0)).sum()),
        "told_falsely": int((~has & (table > 0)).sum()),
        "vectors": float(np.mean([len(rows) for rows in vectors])),
    }


def _profile(
    data: LabelledSamples, settings: Settings, number: int, seed: int, client: int
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Vectors, their classes, and counts."""
    if settings.privacy.on:
        made = private_profile(data, settings, number, noise=noise_of(seed, client))
        return made.vectors, made.vector_classes, made.counts
    rng = np.random.default_rng([seed, client])
    counts = np.bincount(data.labels, minlength=number).astype(np.int64)
    return *class_subspaces(data, settings, rng), counts


def recover(trial: ImageTrial, paths: Mapping[str, str]) -> dict[str, Any]:
    """Give a client images of each class, and look for them in what the server sees."""
    config: dict[str, Any] = {
        "dataset": "fashion-mnist",
        "data-dir": paths["fashion-mnist"],
        "seed": trial.seed,
    }
    settings = Settings.from_run_config(config)
    if trial.epsilon:
        settings = settings.changed({**PRIVATE, "profile-epsilon": trial.epsilon})
    train = load_dataset(settings).train
    rng = np.random.default_rng([trial.seed, trial.images])
    chosen, crowd = _drawn(train, trial.images, rng)
    data = train.select(chosen)
    seen, projection = _seen(data, settings, trial)
    best = [_best(seen[label], projection, data, crowd[label], label) for label in seen]
    told = [each for each in best if each is not None]
    share = sum(each["recognised"] for each in told) / len(crowd)
    return {
        "classes": len(crowd),
        "classes_seen": len(told),
        "recognised": share,
        "cosine": float(np.mean([each["cosine"] for each in told])) if told else None,
        "ssim": float(np.mean([each["ssim"] for each in told])) if told else None,
        "highest_ssim": max((each["ssim"] for each in told), default=None),
    }


def _drawn(
    train: LabelledSamples, images: int, rng: np.random.Generator
) -> tuple[npt.NDArray[np.intp], dict[int, npt.NDArray[np.float64]]]:
    """Draw a client's images, and of each class a crowd of others (CROWD, d)."""
    chosen, crowd = [], {}
    for label in np.unique(train.labels).tolist():
        members = rng.permutation(np.flatnonzero(train.labels == label))
        chosen.append(members[:images])
        crowd[label] = _pixels(train.samples[members[images : images + CROWD]])
    return np.concatenate(chosen), crowd


def _seen(
    data: LabelledSamples, settings: Settings, trial: ImageTrial
) -> tuple[dict[int, npt.NDArray[np.float64]], npt.NDArray[np.float64] | None]:
    """Return the directions that the server has of each class (r, d), and the projection of d'."""
    number = int(data.labels.max()) + 1
    if not settings.privacy.on:
        rows, classes = class_subspaces(data, settings, np.random.default_rng(0))
    elif trial.seen == "sent":
        made = private_profile(data, settings, number, noise=noise_of(trial.seed, trial.images))
        rows, classes = made.vectors, made.vector_classes
    else:
        view = sample_vectors(data.samples, settings).view
        noisy = class_moments(data, view, settings, number).released(
            ProfileBudget.of(trial.epsilon, settings.privacy.profile_delta),
            noise_of(trial.seed, trial.images),
        )
        leading = [np.linalg.eigh(of_class)[1][:, :-4:-1].T for of_class in noisy.seconds]
        rows, classes = np.concatenate(leading).astype(np.float32), np.repeat(range(number), 3)
    projection = None
    if settings.privacy.on:
        projection = projection_of(sample_vectors(data.samples, settings).view, settings)
    return {label: rows[classes == label].astype(np.float64) for label in range(number)}, projection


def _best(
    vectors: npt.NDArray[np.float64],
    projection: npt.NDArray[np.float64] | None,
    data: LabelledSamples,
    crowd: npt.NDArray[np.float64],
    label: int,
) -> dict[str, Any] | None:
    """Find the image of the client that the vectors show best; None where there are no vectors.

    One is recognised where the first vector is nearer to it than to all of the crowd, images being
    projected as vectors are. By chance that happens to n / (n + CROWD) of n.
    """
    if not len(vectors):
        return None
    own = _pixels(data.samples[data.labels == label])
    near, far = (_cosines(vectors[:1], images, projection) for images in (own, crowd))
    shown = vectors if projection is None else vectors @ np.linalg.pinv(projection).T
    mine = _cosines(shown, own, None)
    vector, image = np.unravel_index(int(mine.argmax()), mine.shape)
    return {
        "recognised": bool(near.max() > far.max()),
        "cosine": float(mine.max()),
        "ssim": _ssim(shown[vector], own[image]),
    }


def _cosines(
    vectors: npt.NDArray[np.float64],
    images: npt.NDArray[np.float64],
    projection: npt.NDArray[np.float64] | None,
) -> npt.NDArray[np.float64]:
    """Return cosines of angles, whatever the sign (r, n)."""
    rows = images if projection is None else images @ projection.T
    cosines: npt.NDArray[np.float64] = np.abs(_unit(vectors) @ _unit(rows).T)
    return cosines


def _ssim(vector: npt.NDArray[np.float64], image: npt.NDArray[np.float64]) -> float:
    """Structural similarity of an image and a vector at the brightness and contrast that suit."""
    columns = np.stack([vector, np.ones_like(vector)], axis=1)
    fitted = np.clip(columns @ np.linalg.lstsq(columns, image, rcond=None)[0], 0.0, 1.0)
    side = round(len(image) ** 0.5)
    pair = torch.from_numpy(np.stack([fitted, image])).reshape(2, 1, 1, side, side).float()
    measured = structural_similarity_index_measure(pair[0], pair[1], data_range=1.0)
    assert isinstance(measured, torch.Tensor)
    return float(measured)


def _pixels(samples: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    pixels: npt.NDArray[np.float64] = samples.reshape(len(samples), -1) / 255.0
    return pixels


def _unit(rows: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    unit: npt.NDArray[np.float64] = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return unit


def report(output: Path) -> list[Table]:
    """Tabulate all records."""
    return [_table_of_groups(output), _table_of_images(output)]


def _table_of_groups(output: Path) -> Table:
    table = Table(title="Groups found from private profiles")
    for column in ("data", "scenario", "alpha'", "images a class", "epsilon", "seeds", "ARI",
                   "lowest", "clusters", "told absent", "told falsely", "vectors"):  # fmt: skip
        table.add_column(column)
    frame = Records.in_folder(output, "groups.jsonl").frame()
    for key, rows in frame.groupby(
        ["dataset", "scenario", "alpha", "images", "epsilon"], sort=False
    ):
        clusters = f"{rows['clusters'].min()}-{rows['clusters'].max()}"
        table.add_row(
            *(f"{value:g}" if isinstance(value, float) else str(value) for value in key),
            str(len(rows)),
            f"{rows['rand_index'].mean():.3f}",
            f"{rows['rand_index'].min():.3f}",
            f"{clusters} of {rows['groups'].iloc[0]}",
            f"{rows['told_absent'].sum() / rows['classes_held'].sum():.1%}",
            str(rows["told_falsely"].sum()),
            f"{rows['vectors'].mean():.1f}",
        )
    return table


def _table_of_images(output: Path) -> Table:
    table = Table(title="Images recovered from a profile")
    for column in ("images a class", "epsilon", "seen", "classes seen", "recognised", "cosine",
                   "SSIM", "highest SSIM"):  # fmt: skip
        table.add_column(column)
    frame = Records.in_folder(output, "images.jsonl").frame()
    for key, rows in frame.groupby(["images", "epsilon", "seen"], sort=False):
        table.add_row(
            *(f"{value:g}" if isinstance(value, float) else str(value) for value in key),
            f"{rows['classes_seen'].sum()} of {rows['classes'].sum()}",
            f"{rows['recognised'].mean():.0%}",
            *(f"{rows[name].mean():.2f}" for name in ("cosine", "ssim")),
            f"{rows['highest_ssim'].max():.2f}",
        )
    return table


def run_trials(
    trials: list[Any],
    run: Callable[[Any, Mapping[str, str]], dict[str, Any]],
    paths: Mapping[str, str],
    records: Records,
) -> None:
    """Run what is not recorded yet."""
    for trial in records.missing(trials):
        outcome = run(trial, paths)
        records.of_trial(trial, outcome)
        print(asdict(trial), outcome, flush=True)


def main() -> None:
    """Parse the command line and run a plan, or report."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("plan", choices=["groups", "images", "report"])
    parser.add_argument("--fashion-mnist", default="", metavar="DIR")
    parser.add_argument("--seeds", type=int, nargs=2, default=(1, 3), metavar=("FROM", "TO"))
    parser.add_argument("--output", type=Path, default=OUTPUT)
    arguments = parser.parse_args()
    seeds = range(arguments.seeds[0], arguments.seeds[1] + 1)
    paths = {"fashion-mnist": arguments.fashion_mnist}
    if arguments.plan == "groups":
        records = Records.in_folder(arguments.output, "groups.jsonl")
        run_trials(group_trials(seeds), find_groups, paths, records)
    elif arguments.plan == "images":
        records = Records.in_folder(arguments.output, "images.jsonl")
        run_trials(image_trials(seeds), recover, paths, records)
    else:
        for table in report(arguments.output):
            Console(width=140).print(table)


if __name__ == "__main__":
    main()

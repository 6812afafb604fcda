"""Images from a client's update: its trained model, or the encoder of its profile."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from feddag_flwr.models.dual_encoder import ClusterModel
from feddag_flwr.models.flat import get_parts, set_weights
from feddag_flwr.records import Model
from feddag_flwr.seeds import derived_seed, generator
from feddag_lab.attacks.attack import AttackTrial, Figures
from feddag_lab.attacks.defences import BFLOAT16, DEFENCES, FLOAT16, NONE, ON_UPDATES
from feddag_lab.attacks.gradient_matching import Observed, Rebuilt, Search, search
from feddag_lab.attacks.image_pool import DIGITS, Drawn, ImagePool, pixels_of
from feddag_lab.attacks.layer_span import first_linear
from feddag_lab.attacks.likeness import matched, psnr, ssim
from feddag_lab.attacks.linear_layer import inputs_of_layer
from feddag_lab.attacks.trained_federation import parts_after
from feddag_lab.attacks.victim import Victim, client_with

UPDATE, PROFILE = "update", "encoder of the profile"
START, TRAINED = "start", "trained"
LINEAR_FIRST = "first layer linear"
# What the setting ``model`` is in a case.
MODELS = {"auto": "auto", LINEAR_FIRST: "feddag_lab.attacks.linear_first:build"}
# A picture of at least so many dB counts as the image itself.
CLEAR = 20.0
# Mean distance of a pixel from the levels of eight bits, in levels, up to which it is one of them.
OFF_LEVEL = 0.1
# Images that stand for those of the rest of a federation, on which a model was trained before.
EARLIER = 500
EARLIER_EPOCHS = 20


@dataclass(frozen=True, eq=False)
class Seen:
    """What the server has of a client's training.

    Attributes
    ----------
    networks : list of Observed
        Primary encoder and, where it was trained too, the secondary one, each with its head.
    passes : list of int
        Local steps, from each start of the momentum on.
    """

    networks: list[Observed]
    passes: list[int]


class Inversion:
    """Rebuilds a client's images from how its training moved the model."""

    name = "inversion"
    title = "Images from a client's update"
    formats: Mapping[str, str] = {
        "psnr": ".1f", "psnr_class_mean": ".1f", "ssim": ".2f", "ssim_class_mean": ".2f",
        "clear": ".0%", "layer_error": ".1e",
    }  # fmt: skip

    def trials(
        self, dataset: str, seeds: Iterable[int], *, smallest: bool
    ) -> Sequence[AttackTrial]:
        """Vary images, epochs, model and message; defences on few images."""
        plan = _smallest_plan() if smallest else _plan(dataset)
        return [
            AttackTrial(self.name, dataset, defence, seed, case)
            for case, defence in plan
            for seed in seeds
        ]

    def run(self, trial: AttackTrial, pool: ImagePool) -> Figures:
        """Make a client of a few images, have it train, rebuild them."""
        images, epochs = int(trial.case["images"]), int(trial.case["epochs"])
        drawn = pool.draw(images, generator(trial.seed, f"invert {images}"))
        config: dict[str, Any] = {
            **pool.config, "seed": trial.seed, "local-epochs": epochs,
            "model": MODELS[str(trial.case["model"])], **DEFENCES[trial.defence],
        }  # fmt: skip
        with client_with(drawn.own, pool.class_names, pool.scale, config) as victim:
            if trial.case["message"] == PROFILE:
                seen = _seen_in_profile(victim)
            else:
                seen = _seen_in_update(victim, _start(victim, drawn, trial))
            return _rebuild(seen, victim, drawn, trial)


def _case(images: int, epochs: int = 1, model: str = "auto", message: str = UPDATE,
          state: str = START) -> dict[str, str | int | float]:  # fmt: skip
    return {
        "images": images, "epochs": epochs, "model": model, "message": message, "state": state,
    }  # fmt: skip


def _plan(dataset: str) -> list[tuple[dict[str, str | int | float], str]]:
    """Return cases and defences; fewer of images of 28 pixels, which take ten times as long."""
    if dataset != DIGITS:
        plain = [_case(images) for images in (1, 2, 4)]
        plain += [_case(images, model=LINEAR_FIRST) for images in (1, 4, 8)]
        plain += [_case(1, epochs=10), _case(1, state=TRAINED)]
        defended = [(_case(1), defence) for defence in (BFLOAT16, *ON_UPDATES)]
        return [(case, NONE) for case in plain] + defended
    plain = [_case(images) for images in (1, 2, 4, 8, 32)]
    plain += [_case(images, epochs=10) for images in (1, 8, 32)]
    plain += [_case(images, model=LINEAR_FIRST) for images in (1, 2, 4, 8, 32)]
    plain += [_case(images, model=LINEAR_FIRST, epochs=10) for images in (1, 4)]
    plain += [_case(images, message=PROFILE) for images in (1, 8)]
    plain += [_case(images, state=TRAINED) for images in (1, 8)]
    defended = [
        (_case(images, epochs=epochs), defence)
        for defence in (FLOAT16, BFLOAT16, *ON_UPDATES)
        for images in (1, 8)
        for epochs in ((1, 10) if defence in ON_UPDATES else (1,))
    ]
    return [(case, NONE) for case in plain] + defended


def _smallest_plan() -> list[tuple[dict[str, str | int | float], str]]:
    return [(_case(1), NONE), (_case(1, model=LINEAR_FIRST), NONE), (_case(1), BFLOAT16)]


def _start(victim: Victim, drawn: Drawn, trial: AttackTrial) -> Model:
    """Return the model that is sent: as it begins, or trained before on others' images."""
    model = victim.model()
    if trial.case["state"] == TRAINED:
        rng = generator(trial.seed, "earlier images")
        others = drawn.others.select(rng.permutation(len(drawn.others))[:EARLIER])
        with client_with(others, victim.class_names, victim.scale, _plain(victim)) as federation:
            reply = federation.train(get_parts(model)).reply
        return parts_after(get_parts(model), reply.parts)
    return get_parts(model)


def _plain(victim: Victim) -> dict[str, Any]:
    """Return settings of a long training as a run without defences would have it."""
    training, run = victim.settings.training, victim.settings.run
    return {
        "seed": run.seed, "model": training.model, "local-epochs": EARLIER_EPOCHS, "device": "cpu",
    }  # fmt: skip


def _seen_in_update(victim: Victim, start: Model) -> Seen:
    """Have the client train a model for a round."""
    training, model = victim.train(start), victim.model()
    _fill(model, training.received)
    moved = {part: training.reply.update_of(part) for part in training.reply.parts}
    heads = _split(moved["classifier"], model.classifier)
    own = len(list(model.classifier.primary_head.parameters()))
    networks = [
        Observed(
            nn.Sequential(model.primary, model.classifier.primary_head),
            [*_split(moved["primary"], model.primary), *heads[:own]],
        )
    ]
    if model.secondary is not None and model.classifier.secondary_head is not None:
        secondary = nn.Sequential(model.secondary, model.classifier.secondary_head)
        seen: list[Tensor | None] = [*_split(moved["transfer"], model.secondary), *heads[own:]]
        networks.append(Observed(secondary, seen))
    return Seen(networks, [victim.settings.training.local_epochs])


def _seen_in_profile(victim: Victim) -> Seen:
    """Have the client make its profile; of the classifier the server gets next to nothing."""
    profile, model = victim.profile(), victim.single_model()
    before = get_parts(model)["primary"]
    moved = _split(profile.encoder.floats - before.floats, model.primary)
    head = model.classifier.primary_head
    network = nn.Sequential(model.primary, head)
    settings = victim.settings.profile
    return Seen(
        [Observed(network, [*moved, *[None for _ in head.parameters()]])],
        [settings.warmup_epochs] * settings.warmup_rounds,
    )


def _fill(model: ClusterModel, parts: Model) -> None:
    for name, module in model.parts().items():
        set_weights(module, parts[name])


def _split(values: NDArray[np.float32], module: nn.Module) -> list[Tensor]:
    """Cut a flat vector into tensors of a module's parameters."""
    parameters = list(module.parameters())
    pieces = torch.split(torch.from_numpy(values.copy()), [each.numel() for each in parameters])
    return [piece.reshape(each.shape) for piece, each in zip(pieces, parameters, strict=True)]


def _rebuild(seen: Seen, victim: Victim, drawn: Drawn, trial: AttackTrial) -> Figures:
    """Rebuild the images, and say how like they are to the true ones."""
    true, count = pixels_of(drawn.own), len(drawn.own)
    inputs = _layer_inputs(seen, victim, count, trial.seed)
    pictures = _as_pictures(inputs, victim)
    if pictures is not None:
        by, apart = "layer", None
    else:
        found = _matching(seen, victim, drawn, trial)
        by, apart = "matching", found.mismatch
        pictures = found.images.reshape(count, -1).double().numpy()
    partners = matched(pictures, true)
    pairs = list(zip(pictures, true[partners], strict=True))
    means = _class_means(drawn)
    guesses = [(means[label], image) for label, image in zip(drawn.own.labels, true, strict=True)]
    quality = [psnr(*pair) for pair in pairs]
    return {
        "by": by,
        "mismatch": apart,
        "psnr": float(np.mean(quality)),
        "psnr_class_mean": float(np.mean([psnr(*pair) for pair in guesses])),
        "ssim": float(np.mean([ssim(*pair, victim.shape) for pair in pairs])),
        "ssim_class_mean": float(np.mean([ssim(*pair, victim.shape) for pair in guesses])),
        "clear": float(np.mean(np.array(quality) >= CLEAR)),
        "layer_error": _layer_error(inputs, seen, victim),
    }


def _class_means(drawn: Drawn) -> dict[int, NDArray[np.float64]]:
    """Return the mean of others' images of each class: what is known without the client."""
    return {label: drawn.others_of(label).mean(axis=0) for label in set(drawn.own.labels.tolist())}


def _matching(seen: Seen, victim: Victim, drawn: Drawn, trial: AttackTrial) -> Rebuilt:
    """Look for images by gradient matching; their labels are known from the profile's counts."""
    how = _search_for(trial.dataset, len(drawn.own), sum(seen.passes))
    labels = torch.from_numpy(np.sort(drawn.own.labels))
    seed = derived_seed(trial.seed, "random pictures")
    return search(
        seen.networks, labels, victim.shape, _scale(victim), victim.settings.training,
        seen.passes, how, seed,
    )  # fmt: skip


def _search_for(dataset: str, images: int, steps: int) -> Search:
    """Say how to look for images; chosen by hand, on the digits and on single images of clothes."""
    if dataset == DIGITS:
        return Search(iterations=1000 if images > 8 else 300, restarts=3 if images <= 2 else 1)
    long = steps > 1  # each iteration runs through all steps
    return Search(300 if long else 1000, 1 if long or images > 1 else 2, 0.1, 5e-2)


def _scale(victim: Victim) -> tuple[Tensor, Tensor]:
    means, deviations = (
        torch.tensor(victim.scale, dtype=torch.float32).reshape(-1, 2, 1, 1).unbind(1)
    )
    return means, deviations


def _layer_inputs(seen: Seen, victim: Victim, count: int, seed: int) -> NDArray[np.float64] | None:
    """Compute what the primary encoder's first linear layer was given."""
    network = seen.networks[0]
    encoder = network.network[0]  # type: ignore[index]
    place = first_linear(encoder)
    names = [name for name, _ in network.network.named_parameters()]
    slopes = network.gradients(victim.settings.training, seen.passes)
    weight, bias = (
        slopes[names.index(f"0.{place}.{kind}")].double().numpy() for kind in ("weight", "bias")
    )
    return inputs_of_layer(weight, bias, count, generator(seed, "rows of a layer"))


def _layer_error(inputs: NDArray[np.float64] | None, seen: Seen, victim: Victim) -> float | None:
    """Relative error of a layer's inputs, in the order that suits best; None: not found."""
    if inputs is None:
        return None
    encoder = seen.networks[0].network[0]  # type: ignore[index]
    place, modules = first_linear(encoder), list(encoder.children())
    means, deviations = _scale(victim)
    images = torch.from_numpy(victim.train_part.samples / np.float32(255))
    with torch.no_grad():
        true = nn.Sequential(*modules[:place])((images - means) / deviations)
    expected = true.reshape(len(images), -1).double().numpy()
    apart = np.linalg.norm(inputs - expected[matched(inputs, expected)])
    return float(apart / np.linalg.norm(expected))


def _as_pictures(inputs: NDArray[np.float64] | None, victim: Victim) -> NDArray[np.float64] | None:
    """Return a layer's inputs as pictures; None where they are no pixels of eight bits."""
    if inputs is None or inputs.shape[1] != int(np.prod(victim.shape)):
        return None
    means, deviations = (each.double().numpy() for each in _scale(victim))
    pictures: NDArray[np.float64] = inputs.reshape(-1, *victim.shape) * deviations + means
    levels = 255 * pictures.reshape(len(inputs), -1)
    off = np.abs(levels - levels.round()).mean(axis=1)  # of numbers that are no levels: 0.25
    within = levels.min() > -1 and levels.max() < 256
    return levels.clip(0, 255) / 255 if within and off.max() < OFF_LEVEL else None

"""Images whose local training would move a model as a client's did.

The server knows the model that it sent, the settings of local training and, from the profile, how
many images of each class there are. So it can run the client's training on images of its own, and
change these until the model moves alike (Zhu et al. 2019, "Deep Leakage from Gradients"; cosine and
total variation by Geiping et al. 2020, arXiv 2003.14053; through several local steps by Dimitrov et
al. 2022, arXiv 2206.12395). Steps are of the whole batch: of clients with no more images than
``batch-size``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional

from feddag_flwr.training.settings import LocalTrainingSettings

# The rate falls to a tenth at these shares of the steps (Geiping et al.).
FALLS = (3 / 8, 5 / 8, 7 / 8)


@dataclass(frozen=True, eq=False)
class Observed:
    """One network as it was sent, and how far training moved its parameters.

    Attributes
    ----------
    network : Module
        Encoder and head, as the client received them.
    moved : list of Tensor or None
        Of each parameter, in the module's order; None where the client does not tell it.
    """

    network: nn.Module
    moved: list[Tensor | None]

    def gradients(self, settings: LocalTrainingSettings, passes: Sequence[int]) -> list[Tensor]:
        """Return the gradient at the start, as if it had been the same in all steps.

        Of `passes` each begins with a momentum of zero and has so many steps. Exact for one step.
        """
        rate = settings.learning_rate
        length = sum(_length(steps, settings.momentum) for steps in passes)
        return [
            torch.zeros_like(parameter)
            if moved is None
            else -moved / (rate * length) - settings.weight_decay * parameter.detach()
            for moved, parameter in zip(self.moved, self.network.parameters(), strict=True)
        ]


def _length(steps: int, momentum: float) -> float:
    """How far steps of gradient 1 and rate 1 go: sum over t of (1 + m + .. + m^(t - 1))."""
    return sum(momentum**back for step in range(steps) for back in range(step + 1))


def simulated(
    network: nn.Module,
    inputs: Tensor,
    labels: Tensor,
    settings: LocalTrainingSettings,
    passes: Sequence[int],
) -> list[Tensor]:
    """Return how far SGD on a batch moves each parameter; differentiable in `inputs`."""
    start = {name: value.detach().requires_grad_() for name, value in network.named_parameters()}
    now = dict(start)
    for steps in passes:
        momenta: list[Tensor] = []
        for _ in range(steps):
            loss = functional.cross_entropy(functional_call(network, now, (inputs,)), labels)
            slopes = torch.autograd.grad(loss, list(now.values()), create_graph=True)
            decayed = [
                slope + settings.weight_decay * value
                for slope, value in zip(slopes, now.values(), strict=True)
            ]
            momenta = [
                settings.momentum * before + slope
                for before, slope in zip(momenta or map(torch.zeros_like, decayed), decayed,
                                         strict=True)
            ]  # fmt: skip
            now = {
                name: value - settings.learning_rate * momentum
                for (name, value), momentum in zip(now.items(), momenta, strict=True)
            }
    return [now[name] - start[name] for name in start]


def mismatch(
    observed: Sequence[Observed],
    inputs: Tensor,
    labels: Tensor,
    settings: LocalTrainingSettings,
    passes: Sequence[int],
) -> Tensor:
    """Sum over networks of 1 - cosine between how training moves them and how they moved."""
    total = torch.zeros(())
    for each in observed:
        moves = simulated(each.network, inputs, labels, settings, passes)
        pairs = [(move, seen) for move, seen in zip(moves, each.moved, strict=True)
                 if seen is not None]  # fmt: skip
        mine, theirs = (torch.cat([part.flatten() for part in side])
                        for side in zip(*pairs, strict=True))  # fmt: skip
        total = total + 1 - functional.cosine_similarity(mine, theirs, dim=0, eps=1e-20)
    return total


@dataclass(frozen=True)
class Search:
    """How images are looked for.

    Attributes
    ----------
    iterations, restarts : int
        Steps of Adam on the signs of the gradient, from so many random starts at most.
    enough : float
        Mismatch below which there is no other start.
    rate : float
        Rate at the start, in pixels of [0, 1].
    smoothness : float
        Weight of the total variation, mean absolute difference of neighbouring pixels.
    """

    iterations: int = 300
    restarts: int = 1
    rate: float = 0.05
    smoothness: float = 1e-3
    enough: float = 1e-3


@dataclass(frozen=True, eq=False)
class Rebuilt:
    """Images in [0, 1], shape (n, channels, height, width), and their mismatch."""

    images: Tensor
    mismatch: float


def search(
    observed: Sequence[Observed],
    labels: Tensor,
    shape: tuple[int, ...],
    scale: tuple[Tensor, Tensor],
    settings: LocalTrainingSettings,
    passes: Sequence[int],
    how: Search,
    seed: int,
) -> Rebuilt:
    """Look for images of these labels; of several starts the one of the least mismatch.

    `scale` is mean and deviation of each channel, shape (channels, 1, 1), by which pixels become
    inputs.
    """
    rng = torch.Generator().manual_seed(seed)
    best: Rebuilt | None = None
    for _ in range(how.restarts):
        images = torch.rand((len(labels), *shape), generator=rng).requires_grad_()
        optimiser = torch.optim.Adam([images], lr=how.rate)
        falls = [int(share * how.iterations) for share in FALLS]
        schedule = torch.optim.lr_scheduler.MultiStepLR(optimiser, falls)
        for _ in range(how.iterations):
            optimiser.zero_grad()
            inputs = (images - scale[0]) / scale[1]
            apart = mismatch(observed, inputs, labels, settings, passes)
            (apart + how.smoothness * total_variation(images)).backward()  # type: ignore[no-untyped-call]
            assert images.grad is not None
            images.grad.sign_()
            optimiser.step()
            schedule.step()
            with torch.no_grad():
                images.clamp_(0, 1)
        if best is None or float(apart.detach()) < best.mismatch:
            best = Rebuilt(images.detach(), float(apart.detach()))
        if best.mismatch < how.enough:
            break
    assert best is not None
    return best


def total_variation(images: Tensor) -> Tensor:
    """Mean absolute difference of pixels and their neighbours below and to the right."""
    down = (images[..., 1:, :] - images[..., :-1, :]).abs().mean()
    across = (images[..., 1:] - images[..., :-1]).abs().mean()
    return down + across

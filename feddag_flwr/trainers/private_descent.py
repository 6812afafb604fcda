"""Differentially private gradient descent (DP-SGD, Abadi et al. 2016, Algorithm 1).

What is promised, and the proof, are in `feddag_flwr.privacy.training`. Gradients of single samples
are by `torch.func`: a model sees one sample at a time, under ``vmap``, so that nothing in it can
mix samples, whoever wrote it. Opacus has hooks on layers, and whole batches pass through: that a
model keeps samples apart is taken on trust there. Its noise is PyTorch's.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap

from feddag_flwr.privacy.noise import GaussianNoise
from feddag_flwr.privacy.training import TrainingPlan

Gradients = Mapping[str, Tensor]

# What rounding to single precision cannot bring above 1.
JUST_BELOW = 1.0 - 1e-6


class _LossOf(nn.Module):
    """A loss as a function of the parameters of what is trained."""

    def __init__(self, trained: nn.Module, loss: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.trained = trained
        self._loss = loss

    def forward(self, index: Tensor) -> Tensor:
        return self._loss(index[None])


class SampleGradients:
    """Gradients of single samples, by the names of the trainable parameters of `trained`.

    `loss` goes from the indices of a batch to a scalar, and is called for batches of one. Random
    numbers that a model draws (dropout) are each sample's own.
    """

    def __init__(self, trained: nn.Module, loss: Callable[[Tensor], Tensor]) -> None:
        module = _LossOf(trained, loss)
        self.parameters = {
            name: parameter
            for name, parameter in module.named_parameters()
            if parameter.requires_grad
        }

        def of_one(parameters: dict[str, Tensor], index: Tensor) -> Tensor:
            value: Tensor = functional_call(module, parameters, (index,))
            return value

        self._of_each = vmap(grad(of_one), in_dims=(None, 0), randomness="different")

    def __call__(self, index: Tensor) -> Gradients:
        """Return the gradients of samples (n,): of each parameter (n, *its shape)."""
        present = {name: each.detach() for name, each in self.parameters.items()}
        gradients: Gradients = self._of_each(present, index)
        return gradients


def clipped_sum(gradients: Gradients, clip: float) -> dict[str, Tensor]:
    """Add up gradients of single samples, each shortened to `clip` where it is longer.

    A sample's gradient is one vector over all parameters. One that is not finite counts as 0.

    Parameters
    ----------
    gradients : mapping of str to Tensor, shape (n, ...)
        By parameter.
    clip : float
        C, a Euclidean norm.

    Returns
    -------
    dict of str to Tensor, float64
        By parameter. One sample more moves all of it together by C at most.
    """
    flat = {name: each.flatten(1) for name, each in gradients.items()}
    lengths = [torch.linalg.vector_norm(each, dim=1, dtype=torch.float64) for each in flat.values()]
    norms = torch.linalg.vector_norm(torch.stack(lengths), dim=0)
    finite = torch.isfinite(norms)
    factors = (clip * JUST_BELOW / norms.clamp(min=clip * JUST_BELOW)).where(finite, 0.0)
    summed = {}
    for name, each in flat.items():
        kept = each if bool(finite.all()) else each.where(finite[:, None], 0.0)
        total = (factors.to(kept.dtype) @ kept).double()
        summed[name] = total.reshape(gradients[name].shape[1:])
    return summed


class PrivateGradient:
    """Noisy mean gradients of a client's samples, one a step.

    Parameters
    ----------
    count : int
        Samples that there are.
    told : int
        Number of samples as the client has told it with noise: the mean is over q times it.
    at_once : int
        Samples whose gradients are in memory at once.
    """

    def __init__(
        self,
        gradients: SampleGradients,
        plan: TrainingPlan,
        *,
        count: int,
        told: int,
        at_once: int,
        noise: GaussianNoise,
    ) -> None:
        self._gradients = gradients
        self._plan = plan
        self._count = count
        self._expected = max(1.0, plan.rate * told)
        self._at_once = at_once
        self._noise = noise

    def place(self) -> None:
        """Draw a step's samples, and put their noisy mean gradient where optimisers look for it."""
        parameters, plan = self._gradients.parameters, self._plan
        summed = {
            name: torch.zeros_like(each, dtype=torch.float64) for name, each in parameters.items()
        }
        device = next(iter(parameters.values())).device
        chosen = torch.from_numpy(self._noise.chosen(self._count, plan.rate)).to(device)
        for index in torch.split(chosen, self._at_once) if len(chosen) else ():
            for name, each in clipped_sum(self._gradients(index), plan.clip).items():
                summed[name] += each
        for name, parameter in parameters.items():
            drawn = torch.from_numpy(self._noise.normal(*parameter.shape)).to(device)
            noisy = summed[name] + plan.noise * plan.clip * drawn
            parameter.grad = (noisy / self._expected).to(parameter.dtype)

"""The gradient of a model's mean loss on all of a client's training data."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from feddag_flwr.models.dual_encoder import ClusterModel
from feddag_flwr.objectives import Objective
from feddag_flwr.training.device import Samples
from feddag_flwr.training.local import FORWARD_CHUNK


def mean_gradient(
    model: ClusterModel, samples: Samples, objective: Objective
) -> dict[str, NDArray[np.float32]]:
    """Gradient of the objective's mean; no draw and no change of the weights.

    Parameters
    ----------
    model : ClusterModel
        Taken in evaluation mode: dropout would make the gradient random, and batch normalisation
        would make it depend on how the samples are cut into chunks.
    samples : Samples
        Training data on the model's device.
    objective : Objective
        Whose gradient.

    Returns
    -------
    dict of str to ndarray, shape (d_part,), float32
        By part, in the order of the part's parameters.
    """
    model.eval()
    model.zero_grad()
    for start in range(0, len(samples), FORWARD_CHUNK):
        chunk = slice(start, start + FORWARD_CHUNK)
        logits = model(samples.inputs(chunk))
        loss = objective.sample_losses(logits, samples.labels[chunk]).sum()
        (loss / len(samples)).backward()  # type: ignore[no-untyped-call]
    return {
        part: torch.cat(
            [
                (torch.zeros_like(each) if each.grad is None else each.grad).reshape(-1).float()
                for each in module.parameters()
            ]
        )
        .cpu()
        .numpy()
        for part, module in model.parts().items()
    }

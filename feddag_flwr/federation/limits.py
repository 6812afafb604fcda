"""What the server believes of a reply."""

from __future__ import annotations

from feddag_flwr.federation.wire import Limits
from feddag_flwr.models.dual_encoder import ClusterModel
from feddag_flwr.models.flat import parameter_count, variance_places
from feddag_flwr.profile import sparse_size
from feddag_flwr.settings import Settings


def limits_of(settings: Settings, model: ClusterModel | None = None) -> Limits:
    """Return the limits of a run; those of its model once there is one."""
    parts = {} if model is None else model.parts()
    count = (
        0
        if model is None
        else parameter_count(model.primary)
        + model.classifier.primary_head.weight.numel()
        + model.classifier.primary_head.bias.numel()
    )
    return Limits(
        settings.max_client_samples,
        settings.evaluate_participants,
        settings.subspace_size,
        sparse_size(count, settings.gradient_fraction),
        settings.local_epochs,
        {str(part): variance_places(module) for part, module in parts.items()},
    )

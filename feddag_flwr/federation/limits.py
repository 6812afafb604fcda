"""What the server believes of a reply."""

from __future__ import annotations

from feddag_flwr.models.dual_encoder import ClusterModel
from feddag_flwr.models.flat import variance_places
from feddag_flwr.records import Limits
from feddag_flwr.settings import Settings


def limits_of(settings: Settings, model: ClusterModel | None = None) -> Limits:
    """Return the limits of a run; those of its model once there is one."""
    parts = {} if model is None else model.parts()
    return Limits(
        settings.deployment.max_client_samples,
        settings.run.evaluate_participants,
        settings.profile.subspace_size,
        settings.data.modality,
        {str(part): variance_places(module) for part, module in parts.items()},
    )

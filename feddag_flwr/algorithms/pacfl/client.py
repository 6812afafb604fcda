"""PACFL on the client."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from flwr.app import Context, RecordDict

from feddag_flwr.client.action import Action
from feddag_flwr.client.session import ClientSession
from feddag_flwr.profile import subspace_size
from feddag_flwr.records import RequestHeader
from feddag_flwr.subspace_view import make_view, view_name
from feddag_flwr.training.profile import leading_vectors_of_all


def vectors(content: RecordDict, context: Context) -> RecordDict:
    """Reply with the leading singular vectors of all training data, whatever the class."""
    header = RequestHeader.decode(content)
    session = ClientSession.open(context, header)
    session.check_not_private("principal vector without noise")
    settings = session.settings
    view = make_view(view_name(settings.profile), header.modality, header.spec, settings.run.seed)
    samples = session.data.train.samples
    size = subspace_size(settings.profile.subspace_size, len(samples))
    found = leading_vectors_of_all(samples, view, header.sample_scale, size)
    return header.reply(arrays={"vectors": found.astype(np.float32)})


ACTIONS: Mapping[str, Action] = {"query.vectors": vectors}

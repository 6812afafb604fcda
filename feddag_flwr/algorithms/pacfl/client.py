"""PACFL on the client."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from flwr.app import Context, RecordDict

from feddag_flwr.client.action import Action
from feddag_flwr.client.session import ClientSession
from feddag_flwr.profile import subspace_size
from feddag_flwr.records import RequestHeader
from feddag_flwr.training.profile import leading_vectors


def vectors(content: RecordDict, context: Context) -> RecordDict:
    """Reply with the leading singular vectors of all training data, whatever the class."""
    header = RequestHeader.decode(content)
    session = ClientSession.open(context, header)
    matrix = session.modality.subspace_matrix(session.data.train.samples, header.sample_scale)
    size = subspace_size(session.settings.profile.subspace_size, len(matrix))
    return header.reply(arrays={"vectors": leading_vectors(matrix, size).astype(np.float32)})


ACTIONS: Mapping[str, Action] = {"query.vectors": vectors}

"""What each message carries: typed at both ends, checked where it comes in.

Every message is a Flower `RecordDict` with at most three kinds of records: ``info``
(`ConfigRecord`: names and labels), ``arrays`` (`ArrayRecord`: weights, vectors, counts) and
`MetricRecord`s. Decoding checks types, shapes, finiteness and ranges, and raises `RecordError` with
the reason; no object is ever unpickled.
"""

from feddag_flwr.records.evaluate import (
    CANDIDATE_LOSSES_ACTION,
    CandidateLosses,
    CandidateLossesRequest,
    EvaluateReply,
    EvaluateRequest,
)
from feddag_flwr.records.gradient import (
    GRADIENT_ACTION,
    GradientRequest,
    decode_gradient,
    encode_gradient,
)
from feddag_flwr.records.header import RequestHeader
from feddag_flwr.records.membership import (
    DESCRIBE_ACTION,
    REJECTION_ACTION,
    DescribeRequest,
    Description,
    Rejection,
)
from feddag_flwr.records.mixture import (
    RESPONSIBILITIES_ACTION,
    ResponsibilitiesRequest,
    decode_responsibilities,
    encode_responsibilities,
)
from feddag_flwr.records.parts import Model
from feddag_flwr.records.profile import (
    PROFILE_ACTION,
    VECTORS_ACTION,
    ProfileRequest,
    decode_profile,
    decode_vectors,
    encode_profile,
    encode_vectors,
)
from feddag_flwr.records.sizes import arrays_nbytes
from feddag_flwr.records.train import PHASES, LocalTrainingConfig, TrainReply, TrainRequest
from feddag_flwr.records.values import MAX_NAMES, RecordError

__all__ = [
    "CANDIDATE_LOSSES_ACTION",
    "DESCRIBE_ACTION",
    "GRADIENT_ACTION",
    "MAX_NAMES",
    "PHASES",
    "PROFILE_ACTION",
    "REJECTION_ACTION",
    "RESPONSIBILITIES_ACTION",
    "VECTORS_ACTION",
    "CandidateLosses",
    "CandidateLossesRequest",
    "DescribeRequest",
    "Description",
    "EvaluateReply",
    "EvaluateRequest",
    "GradientRequest",
    "LocalTrainingConfig",
    "Model",
    "ProfileRequest",
    "RecordError",
    "Rejection",
    "RequestHeader",
    "ResponsibilitiesRequest",
    "TrainReply",
    "TrainRequest",
    "arrays_nbytes",
    "decode_gradient",
    "decode_profile",
    "decode_responsibilities",
    "decode_vectors",
    "encode_gradient",
    "encode_profile",
    "encode_responsibilities",
    "encode_vectors",
]

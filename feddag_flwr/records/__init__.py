"""What each message carries: typed at both ends, checked where it comes in.

Every message is a Flower `RecordDict` with at most three kinds of records: ``info``
(`ConfigRecord`: names and labels), ``arrays`` (`ArrayRecord`: weights, vectors, counts) and
`MetricRecord`s. Decoding checks types, shapes, finiteness and ranges, and raises `RecordError` with
the reason; no object is ever unpickled.
"""

from feddag_flwr.records.evaluate import (
    MEASURE_ACTION,
    EvaluateReply,
    EvaluateRequest,
    Measurement,
    MeasureRequest,
)
from feddag_flwr.records.gradient import (
    GRADIENT_ACTION,
    GradientRequest,
    decode_gradient,
    encode_gradient,
)
from feddag_flwr.records.membership import (
    DESCRIBE_ACTION,
    NOTICE_ACTION,
    DescribeRequest,
    Description,
    Notice,
)
from feddag_flwr.records.mixture import (
    SHARES_ACTION,
    SharesRequest,
    decode_shares,
    encode_shares,
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
from feddag_flwr.records.task import Task
from feddag_flwr.records.train import PHASES, Recipe, TrainReply, TrainRequest
from feddag_flwr.records.values import MAX_NAMES, RecordError

__all__ = [
    "DESCRIBE_ACTION",
    "GRADIENT_ACTION",
    "MAX_NAMES",
    "MEASURE_ACTION",
    "NOTICE_ACTION",
    "PHASES",
    "PROFILE_ACTION",
    "SHARES_ACTION",
    "VECTORS_ACTION",
    "DescribeRequest",
    "Description",
    "EvaluateReply",
    "EvaluateRequest",
    "GradientRequest",
    "MeasureRequest",
    "Measurement",
    "Model",
    "Notice",
    "ProfileRequest",
    "Recipe",
    "RecordError",
    "SharesRequest",
    "Task",
    "TrainReply",
    "TrainRequest",
    "arrays_nbytes",
    "decode_gradient",
    "decode_profile",
    "decode_shares",
    "decode_vectors",
    "encode_gradient",
    "encode_profile",
    "encode_shares",
    "encode_vectors",
]

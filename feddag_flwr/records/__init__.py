"""What each message carries: typed at both ends, checked where it comes in.

Every message is a Flower `RecordDict` with at most three kinds of records: ``info``
(`ConfigRecord`: names and labels), ``arrays`` (`ArrayRecord`: weights, vectors, counts) and
`MetricRecord`s. Decoding checks types, shapes, finiteness and ranges, and raises `RecordError` with
the reason; no object is ever unpickled. Messages of one algorithm alone are in its own folder.
"""

from feddag_flwr.local_training import LocalTrainingConfig
from feddag_flwr.records.evaluate import (
    CandidateLosses,
    CandidateLossesRequest,
    EvaluateReply,
    EvaluateRequest,
)
from feddag_flwr.records.header import Drift, RequestHeader
from feddag_flwr.records.limits import Limits
from feddag_flwr.records.membership import (
    REJECTION_ACTION,
    DescribeRequest,
    Description,
    PrepareRequest,
    Rejection,
    describe_request_of,
)
from feddag_flwr.records.parts import Candidates, Model
from feddag_flwr.records.request import ClientRequest, Request
from feddag_flwr.records.sizes import arrays_nbytes
from feddag_flwr.records.train import PrivateRequest, TrainReply, TrainRequest
from feddag_flwr.records.validation import ValidationLosses, ValidationLossesRequest
from feddag_flwr.records.values import MAX_NAMES, RecordError

__all__ = [
    "MAX_NAMES",
    "REJECTION_ACTION",
    "CandidateLosses",
    "CandidateLossesRequest",
    "Candidates",
    "ClientRequest",
    "DescribeRequest",
    "Description",
    "Drift",
    "EvaluateReply",
    "EvaluateRequest",
    "Limits",
    "LocalTrainingConfig",
    "Model",
    "PrepareRequest",
    "PrivateRequest",
    "RecordError",
    "Rejection",
    "Request",
    "RequestHeader",
    "TrainReply",
    "TrainRequest",
    "ValidationLosses",
    "ValidationLossesRequest",
    "arrays_nbytes",
    "describe_request_of",
]

"""Shim until the requests read their own replies."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from feddag_flwr.records import *  # noqa
from feddag_flwr.records.sizes import least_weights_up

Request = Any


@dataclass(frozen=True)
class VectorsRequest:
    header: RequestHeader
    size: int

    def encode(self):
        return self.header.encode()


@dataclass(frozen=True)
class Limits:
    max_samples: int
    evaluated: bool = True
    subspace: float = 3.0
    coordinates: int = 0
    local_epochs: int = 1
    variances: Mapping[str, NDArray[np.intp]] = field(default_factory=dict)


def action(request):
    return {
        "DescribeRequest": "query.describe", "Rejection": "query.rejection",
        "ProfileRequest": "train.profile", "TrainRequest": "train", "EvaluateRequest": "evaluate",
        "CandidateLossesRequest": "query.candidate_losses",
        "ResponsibilitiesRequest": "query.responsibilities", "GradientRequest": "query.gradient",
        "VectorsRequest": "query.vectors",
    }[type(request).__name__]


def counted_as(request):
    kind = action(request).rpartition(".")[2]
    return {"responsibilities": "candidate_losses", "vectors": "profile", "gradient": "profile"}.get(kind, kind)


def group(request):
    header = getattr(request, "header", None)
    return str(header.server_round if header else getattr(request, "server_round", "rejection"))


def least_up(request, content):
    return least_weights_up(content, action(request).rpartition(".")[2])


def read(request, content, limits):
    kind = type(request).__name__
    limit = limits.max_samples
    if kind == "DescribeRequest":
        return Description.decode(content, limit)
    if kind == "ProfileRequest":
        found = decode_profile(content, request.header, encoder=request.start["primary"],
            coordinates=limits.coordinates, limit=limit, subspace=limits.subspace)
        check(limits, "primary", found.encoder)
        return found
    if kind == "EvaluateRequest":
        return EvaluateReply.decode(content, request.header, limit=limit, personalised=request.personalisation_epochs > 0)
    if kind == "CandidateLossesRequest":
        return CandidateLosses.decode(content, request.header, count=len(request.candidates), limit=limit)
    if kind == "ResponsibilitiesRequest":
        return decode_responsibilities(content, request.header, count=len(request.candidates), limit=limit)
    if kind == "GradientRequest":
        return decode_gradient(content, request)
    if kind == "VectorsRequest":
        return decode_vectors(content, request.header, size=request.size)
    expected, numbers = {}, {}
    if {"primary", "fomaml"} & set(request.phases):
        start = 0 if request.candidates else None
        expected = {part: request.start_of(part, start) for part in ("primary", "classifier")}
    if "secondary" in request.phases:
        expected["transfer"] = request.start_of("transfer", None)
        if request.config.separate_heads:
            expected["classifier"] = request.start_of("classifier", None)
    if "mixture" in request.phases:
        expected = {f"{k}/{p}": w for k, m in enumerate(request.candidates) for p, w in m.items()}
        numbers["responsibilities"] = (len(request.candidates), len(request.header.class_names))
    if request.config.losses:
        numbers["losses"] = (limits.local_epochs,)
    reply = TrainReply.decode(content, request, expected=expected, numbers=numbers, limit=limit, evaluated=limits.evaluated)
    for name, weights in reply.parts.items():
        check(limits, name.rpartition("/")[2], weights)
    return reply


def check(limits, part, weights):
    places = limits.variances.get("secondary" if part == "transfer" else part)
    if places is not None and (weights.buffers[places] < 0).any():
        raise RecordError(f"{part}: a running variance is negative")

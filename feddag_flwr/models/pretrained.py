"""Pretrained weights of encoders, out of a local file (setting ``encoder-weights``)."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from feddag_flwr.models.backbones import Backbone
from feddag_flwr.models.dual_encoder import ClusterModel
from feddag_flwr.models.errors import ModelError

SAFETENSORS = ".safetensors"
PYTORCH = (".pt", ".pth")
# Under which training scripts keep the weights among other things.
_NESTED = ("state_dict", "model")
# What batch norm keeps beside its weights.
_STATISTICS = ("running_mean", "running_var", "num_batches_tracked")
# Names in a message at most.
MOST_NAMES = 3


class WeightsFileError(ModelError):
    """The file of the setting ``encoder-weights`` does not hold an encoder's weights."""


class Found(NamedTuple):
    """What of a file goes into an encoder.

    Attributes
    ----------
    tensors : dict of str to Tensor
        By the encoder's own names.
    head : tuple of str
        Names of the file's last layer, which the classifier takes the place of.
    statistics : tuple of str
        Means, variances and counters of batch norm that the encoder does not have.
    others : tuple of str
        What an encoder of the user's own has no place for.
    """

    tensors: dict[str, Tensor]
    head: tuple[str, ...]
    statistics: tuple[str, ...]
    others: tuple[str, ...]

    def in_words(self) -> str:
        """Say what became of the file."""
        rest = (
            (self.head, "the last layer, whose place the classifier takes"),
            (self.statistics, "statistics of batch norm, which group norm has not"),
            (self.others, "not in the encoder"),
        )
        left = [f"; passed over: {_listed(names)} ({what})" for names, what in rest if names]
        return f"{len(self.tensors)} tensors taken" + "".join(left)


def weights_file(setting: str) -> Path:
    """Return the file that a value of ``encoder-weights`` names."""
    return Path(setting).expanduser().absolute()


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Read a file of tensors by name, ``.safetensors``, or ``.pt`` or ``.pth`` of tensors alone.

    Nothing is unpickled but tensors. A `WeightsFileError` says in a sentence what is wrong.
    """
    if path.suffix not in (SAFETENSORS, *PYTORCH):
        raise _refusal(path, f"must end in {SAFETENSORS}, {' or '.join(PYTORCH)}")
    if not path.is_file():
        raise _refusal(path, "no such file; download it where the server runs")
    try:
        if path.suffix == SAFETENSORS:
            return load_file(path)
        stored = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise _refusal(
            path,
            "holds more than tensors, or is no such file; write it anew with "
            "torch.save(model.state_dict(), FILE)",
        ) from error
    except (SafetensorError, RuntimeError, OSError, EOFError, ValueError) as error:
        why = " ".join(str(error).split())[:200]
        raise _refusal(path, f"cannot be read ({why}); download it again") from error
    return _tensors_of(path, stored)


def _tensors_of(path: Path, stored: object) -> dict[str, Tensor]:
    if isinstance(stored, Mapping):
        nested = [key for key in _NESTED if isinstance(stored.get(key), Mapping)]
        named = stored[nested[0]] if nested else stored
        tensors = {str(key): each for key, each in named.items() if isinstance(each, Tensor)}
        if tensors:
            return tensors
    raise _refusal(
        path, "holds no tensors by name; write it with torch.save(model.state_dict(), FILE)"
    )


def matched(encoder: nn.Module, tensors: Mapping[str, Tensor], path: Path) -> Found:
    """Find the tensors of an encoder in a file.

    Their names may all begin alike, as ``module.`` or ``primary.trunk.``. A `WeightsFileError`
    names the file, the first tensor that is missing, odd or of another shape, and what to do.
    """
    backbone = encoder if isinstance(encoder, Backbone) else None
    wanted = (encoder if backbone is None else backbone.trunk).state_dict()
    begins = "" if backbone is None else "trunk."
    held = _without_prefix(tensors, wanted)
    if backbone is not None:
        held = _adapted(backbone, held, path)
    for name, own in wanted.items():
        _check_tensor(path, name, held.get(name), own)
    rest = sorted(held.keys() - wanted.keys())
    statistics = tuple(name for name in rest if _is_statistic(name, wanted))
    head = tuple(n for n in rest if backbone is not None and n.startswith(f"{backbone.head}."))
    others = tuple(name for name in rest if name not in {*statistics, *head})
    if others and backbone is not None:
        raise _refusal(
            path,
            f"holds {_listed(others)}, which the model has not; it is of another network: name "
            "that as model, or give a file of this one",
        )
    return Found({begins + name: held[name] for name in wanted}, head, statistics, others)


def load_encoders(model: ClusterModel, setting: str) -> str:
    """Copy the weights of a file into all encoders of a model; return what became of it, in words.

    A `WeightsFileError` says that it is not a file of theirs.
    """
    path = weights_file(setting)
    found = matched(model.primary, read_tensors(path), path)
    for encoder in (model.primary, model.secondary):
        if encoder is not None:
            encoder.load_state_dict(found.tensors)
    return f"{path}: {found.in_words()}"


def _adapted(backbone: Backbone, held: dict[str, Tensor], path: Path) -> dict[str, Tensor]:
    try:
        return backbone.adapted(held)
    except (KeyError, ValueError, RuntimeError) as error:
        raise _refusal(path, f"does not hold this network's places ({error})") from error


def _without_prefix(
    tensors: Mapping[str, Tensor], wanted: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """Return the tensors below the beginning that most of the wanted names have in common."""
    first = next(iter(wanted), "")
    begins = sorted({name.removesuffix(first) for name in tensors if name.endswith(first)} | {""})
    best = max(begins, key=lambda prefix: sum(prefix + name in tensors for name in wanted))
    below = {n.removeprefix(best): each for n, each in tensors.items() if n.startswith(best)}
    return below if best else dict(tensors)


def _check_tensor(path: Path, name: str, given: Tensor | None, own: Tensor) -> None:
    if given is None:
        raise _refusal(path, f"lacks {name}, which the model has; name the file's network as model")
    if given.shape != own.shape:
        raise _refusal(
            path,
            f"{name} is {_shape(given)}, the model's is {_shape(own)}; name the file's network as "
            "model",
        )
    if given.is_floating_point() and not torch.isfinite(given).all():
        raise _refusal(path, f"{name} holds NaN or infinite numbers; download it again")


def _is_statistic(name: str, wanted: Mapping[str, Tensor]) -> bool:
    """Tell whether a name is of a norm that the encoder has without statistics."""
    layer, _, kind = name.rpartition(".")
    return kind in _STATISTICS and f"{layer}.weight" in wanted


def _shape(tensor: Tensor) -> str:
    return " x ".join(map(str, tensor.shape)) or "one number"


def _listed(names: tuple[str, ...]) -> str:
    more = len(names) - MOST_NAMES
    return ", ".join(names[:MOST_NAMES]) + (f" and {more} more" if more > 0 else "")


def _refusal(path: Path, why: str) -> WeightsFileError:
    return WeightsFileError(f"setting encoder-weights = {str(path)!r}: {why}")

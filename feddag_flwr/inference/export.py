"""Models as files that run without this project: TorchScript and ONNX."""

import importlib.util
import json
import warnings
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from feddag_flwr.data.images.form import ImageForm
from feddag_flwr.inference.recipe import image_recipe, table_recipe
from feddag_flwr.inference.served import Served
from feddag_flwr.modalities import load_modality
from feddag_flwr.modalities.columns import table_of

# Name of the description inside an exported file.
METADATA = "feddag-flwr.json"
# Packages that writing and checking ONNX takes: the extra ``onnx``.
ONNX_PACKAGES = ("onnx", "onnxscript", "onnxruntime")
# Sizes of the batches on which an exported model must agree with the original, and how well.
BATCHES = (1, 2, 5)
TOLERANCE = 1e-4
_FIXED = (
    "an encoder whose forward loops over the images, or takes other ways for other inputs, cannot "
    "be exported"
)
_TRACER_WARNING: type[Warning] = torch.jit.TracerWarning  # type: ignore[attr-defined]


class ExportError(RuntimeError):
    """The model cannot be exported, or the file does not compute what the model does."""


def export(served: Served, output: Path) -> Path:
    """Write a model to a file, and what it is to a JSON file beside it, whose path is returned.

    The file takes ``images`` (n, channels, height, width), float32 in [0, 1], for any n, and gives
    ``logits`` (n, classes). For models of other samples see `feddag_flwr.inference.prepared`. It
    holds the description too: a TorchScript file as extra file ``feddag-flwr.json``, an ONNX file
    as metadata of that name. `output` ends in ``.pt``
    (TorchScript) or ``.onnx``, and is replaced if it is there.

    Raises
    ------
    ExportError
        A package is missing, the format or its runtime cannot do what the model does, or the file
        computes something else than the model.
    """
    writers: dict[str, tuple[str, Callable[[Served, Path, str], None]]] = {
        ".pt": ("TorchScript", _write_torchscript),
        ".onnx": ("ONNX", _write_onnx),
    }
    if output.suffix not in writers:
        raise ValueError(f"{output}: must end in .pt (TorchScript) or .onnx")
    kind, write = writers[output.suffix]
    text = json.dumps(describe(served, kind), indent=2) + "\n"
    output.parent.mkdir(parents=True, exist_ok=True)
    partial = output.with_name(f".partial-{output.name}")
    try:
        write(served, partial, text)
        partial.replace(output)
    except (ExportError, OSError):
        raise
    except Exception as error:  # of PyTorch's exporters and ONNX Runtime, each of its own kind
        raise ExportError(f"the model cannot be exported as {kind}: {_reason(error)}") from error
    finally:
        partial.unlink(missing_ok=True)
    description = output.with_name(f"{output.name}.json")
    description.write_text(text, encoding="utf-8")
    return description


def _reason(error: BaseException) -> str:
    """Return the line of an error, or of what it comes from, that says what is wrong."""
    while error.__cause__ is not None:
        error = error.__cause__
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    named = [line for line in lines if "Error" in line]  # a traceback of TorchScript has it last
    line = (named[-1:] or lines[:1] or [type(error).__name__])[0]
    return "".join(char if char.isprintable() else " " for char in line)


def describe(served: Served, kind: str) -> dict[str, Any]:
    """Return what users of an exported model must know."""
    return {
        "format": kind,
        "input": _input(served),
        **_recipe(served),
        "output": {"name": "logits", "shape": ["n", len(served.class_names)]},
        "labels": list(served.class_names),
        **{key: getattr(served, key) for key in ("algorithm", "cluster", "client", "personal")},
        "round": served.server_round,
        "checkpoint": served.checkpoint,
        "feddag-flwr": version("feddag-flwr"),
    }


def _recipe(served: Served) -> dict[str, Any]:
    """Say how samples become inputs, in words and for programs."""
    if served.modality == "image":
        return {"preparation": _preparation(served.form), "recipe": image_recipe(served.form)}
    if served.modality == "tabular":
        return {"recipe": table_recipe(table_of(served.spec), served.sample_scale)}
    return {}


def _preparation(form: ImageForm) -> list[str]:
    """Say how an image becomes an input, step by step."""
    deep = f"0 to {2**form.bits - 1} becomes 0 to 255" if form.bits else "not taken"
    return [
        "upright by EXIF orientation",
        f"more than 8 bits a channel: {deep}",
        "transparent parts on white",
        "grey" if form.channels == 1 else "red, green, blue",
        f"resized, bilinear with antialiasing, to cover {form.width} x {form.height} pixels "
        "(width x height)",
        f"centre crop of {form.width} x {form.height}",
        "divided by 255",
    ]


def _input(served: Served) -> dict[str, Any]:
    name = load_modality(served.modality).array
    if served.modality == "image":
        shape = ["n", *served.sample_shape]
        return {"name": name, "shape": shape, "type": "float32", "range": [0, 1]}
    if served.modality == "series":
        channels = served.sample_shape[0]
        return {"name": name, "shape": ["n", "steps", channels + 1], "type": "float32"}
    written: dict[str, Any] = {
        "name": name,
        "shape": ["n", *served.sample_shape],
        "type": "float32",
    }
    if served.modality == "tabular":
        table = table_of(served.spec)
        levels = {column.name: list(column.levels or ()) for column in table.categories}
        written |= {"numbers": list(table.numbers), "levels": levels}
    return written


def _examples(served: Served, count: int) -> Tensor:
    """Make samples of noise, of the right shape."""
    if served.modality == "series":
        return load_modality("series").example(served.spec, count)
    noise = np.random.default_rng(count).random((count, *served.sample_shape), dtype=np.float32)
    return torch.from_numpy(noise)


def _check(served: Served, compute: Callable[[Tensor], Tensor]) -> None:
    """Compare what a file computes with the model, on batches of several sizes."""
    for count in BATCHES:
        images = _examples(served, count)
        with torch.no_grad():
            expected = served.classifier(images)
        try:
            computed = compute(images)
        except Exception as error:  # whatever a runtime says
            raise ExportError(
                f"the exported model fails on {count} images: {_FIXED} ({_reason(error)})"
            ) from error
        if computed.shape != expected.shape or not torch.allclose(
            computed, expected, rtol=TOLERANCE, atol=TOLERANCE
        ):
            raise ExportError(
                f"the exported model computes something else than the model for {count} images: "
                + _FIXED
            )


def _write_torchscript(served: Served, path: Path, text: str) -> None:
    with warnings.catch_warnings():
        # PyTorch calls TorchScript outdated; it is what C++ and mobile runtimes load.
        warnings.filterwarnings("ignore", category=FutureWarning, module=r"torch\.jit")
        warnings.filterwarnings("ignore", category=DeprecationWarning, module=r"torch\.jit")
        warnings.filterwarnings("ignore", category=_TRACER_WARNING)  # `_check` knows better
        traced = torch.jit.trace(  # type: ignore[no-untyped-call]
            served.classifier, _examples(served, 2), check_trace=False
        )
        torch.jit.save(traced, str(path), _extra_files={METADATA: text.encode()})
        loaded = torch.jit.load(str(path))  # type: ignore[no-untyped-call]
        with torch.no_grad():
            _check(served, loaded)


def _write_onnx(served: Served, path: Path, text: str) -> None:
    missing = [name for name in ONNX_PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        raise ExportError(
            f"ONNX needs {', '.join(missing)}: install the extra, pip install 'feddag-flwr[onnx]'"
        )
    name = load_modality(served.modality).array
    free = {0: torch.export.Dim("n", min=1)}
    if served.modality == "series":
        free[1] = torch.export.Dim("steps", min=2)
    program = torch.onnx.export(
        served.classifier,
        (_examples(served, 2),),
        dynamo=True,
        input_names=[name],
        output_names=["logits"],
        dynamic_shapes=(free,),
        verbose=False,
    )
    if program is None:  # only without the dynamo exporter
        raise ExportError("PyTorch returned no ONNX program")
    program.model.metadata_props[METADATA] = text
    program.save(str(path), external_data=False)
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    _check(served, lambda images: torch.from_numpy(session.run(None, {name: images.numpy()})[0]))

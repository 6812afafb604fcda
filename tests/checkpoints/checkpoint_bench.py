"""Checkpoints to be written, and what must come back of them."""

import numpy as np

from feddag_flwr.aggregation import Weights
from feddag_flwr.checkpoints import (
    CHECKPOINTS,
    AlgorithmState,
    Checkpoint,
    CheckpointFolder,
)
from feddag_flwr.layout import ModelLayout, TensorSpec
from feddag_flwr.state import Client, ServerState


def weights(*floats, integers=()):
    return Weights(np.array(floats, dtype=np.float32), integers=np.array(integers, dtype=np.int64))


# A part of two floats in two tensors, one of a counter, and one with all kinds.
LAYOUT = ModelLayout(
    {
        "primary": (
            TensorSpec("0.weight", "floats", (1, 1), "float32"),
            TensorSpec("0.bias", "floats", (1,), "float32"),
        ),
        "classifier": (TensorSpec("count", "integers", (), "int64"),),
        "mixed": (
            TensorSpec("w", "floats", (2, 1), "float32", ("tied.w",)),
            TensorSpec("running_mean", "buffers", (1,), "float32"),
            TensorSpec("seen", "integers", (1,), "int32"),
        ),
    }
)


def state_of(server_round=0, models=()):
    return ServerState(
        class_names=("0", "1"),
        sample_shape=(1, 8, 8),
        sample_scale=((0.1, 1 / 3),),
        clients={name: Client(name, 10, 3) for name in ("ward-1", "ward/2 ü")},
        server_round=server_round,
        assignments={"ward-1": 0, "ward/2 ü": 0},
        models=list(models),
        teachers=((0,),) * len(models),
    )


def checkpoint_of(server_round, *, models=None, arrays=None, notes=None, run=None, own=None):
    if models is None:
        models = [{"primary": weights(server_round, 0.1), "classifier": weights(integers=[7])}]
    algorithm = AlgorithmState(arrays or {}, notes or {}, own or {})
    state = state_of(server_round, models)
    return Checkpoint(server_round, {"seed": 3}, state, LAYOUT, algorithm, run or {})


def assert_same_arrays(found, expected):
    assert list(found) == list(expected)
    for name, values in expected.items():
        assert found[name].dtype == values.dtype, name
        assert found[name].shape == values.shape, name
        assert found[name].tobytes() == values.tobytes(), name


def assert_same(found, expected):
    assert found.server_round == expected.server_round
    assert found.settings == expected.settings
    assert found.notes == expected.notes
    assert found.layout == expected.layout
    assert found.algorithm.notes == expected.algorithm.notes
    assert list(found.algorithm.arrays) == list(expected.algorithm.arrays)
    for group, its in expected.algorithm.arrays.items():
        assert_same_arrays(found.algorithm.arrays[group], its)
    assert list(found.algorithm.models) == list(expected.algorithm.models)
    for client, model in expected.algorithm.models.items():
        assert_same_model(found.algorithm.models[client], model)
    assert vars(found.state) | {"models": None} == vars(expected.state) | {"models": None}
    for model, its in zip(found.state.models, expected.state.models, strict=True):
        assert_same_model(model, its)


def assert_same_model(found, expected):
    assert list(found) == list(expected)
    for part, each in expected.items():
        assert_same_arrays(vars(found[part]), vars(each))


def folder_with(tmp_path, *rounds, keep=3, **held):
    folder = CheckpointFolder(tmp_path / "run" / CHECKPOINTS, keep)
    for server_round in rounds:
        folder.write(checkpoint_of(server_round, **held))
    return folder


def file_of(folder, server_round, path):
    return folder.path / f"round-{server_round:06d}" / path


def flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


MODEL, GROUP = "models/cluster-000.safetensors", "algorithm/update.safetensors"

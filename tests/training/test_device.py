import numpy as np
import pytest
import torch

from feddag_flwr.data.samples import LabelledSamples
from feddag_flwr.modalities import image
from feddag_flwr.modalities.image import Image
from feddag_flwr.models.registry import build_model
from feddag_flwr.settings import Settings
from feddag_flwr.training.device import (
    DeviceError,
    check_memory,
    prepare_device,
    seed_generators,
)

CPU = torch.device("cpu")


def make_data(count):
    return LabelledSamples(np.full((count, 1, 8, 8), 51, np.uint8), np.zeros(count, np.int64))


def test_the_number_of_threads_is_the_settings():
    before = torch.get_num_threads()
    try:
        assert (
            prepare_device(Settings.from_run_config({"threads": 2, "device": "cpu"}).training)
            == CPU
        )
        assert torch.get_num_threads() == 2
        prepare_device(Settings.from_run_config({"threads": 1}).training)
        assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize(
    "where",
    [
        CPU,
        pytest.param(
            torch.device("cuda:0"),
            marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU"),
        ),
    ],
)
def test_draws_of_a_network_come_from_the_seed(where):
    drawn = []
    for seed in (1, 2, 1):
        seed_generators(where, seed)
        drawn.append([torch.rand(5), torch.rand(5, device=where)])
    for one, other, again in zip(*drawn, strict=True):
        assert torch.equal(one, again)
        assert not torch.equal(one, other)
    torch.manual_seed(1)  # what everybody knows gives the same
    assert torch.equal(torch.rand(5), drawn[0][0])


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_missing_gpu_is_named():
    with pytest.raises(DeviceError, match="device = 'cuda:3': 0 CUDA devices"):
        prepare_device(Settings.from_run_config({"device": "cuda:3"}).training)


def test_the_cap_on_memory_refuses_what_does_not_fit():
    # 20,000 images of 64 pixels and 64 features, 4 bytes each: 10.2 MB, and 16 bytes for each of
    # the model's 17,258 parameters: 0.3 MB; together 10.0 MiB.
    model = build_model("small", (1, 8, 8), 10, dual=False, seed=1)
    data = make_data(20_000)
    check_memory(Settings(), data, model)
    check_memory(Settings.from_run_config({"device-memory": 11}), data, model)
    with pytest.raises(DeviceError, match="needs about 10 MiB for 20000 samples, setting device-m"):
        check_memory(Settings.from_run_config({"device-memory": 9}), data, model)


def test_large_sets_are_standardised_batch_by_batch_with_the_same_result(monkeypatch):
    at_once = Image().to_device(CPU, make_data(3), ((0.1, 0.5),))
    monkeypatch.setattr(image, "STANDARDISE_AT_ONCE", 100)
    by_batch = Image().to_device(CPU, make_data(3), ((0.1, 0.5),))
    assert by_batch.stored.dtype == torch.uint8
    assert torch.equal(by_batch.inputs(slice(0, 2)), at_once.inputs(slice(0, 2)))

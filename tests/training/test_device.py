import numpy as np
import pytest
import torch

from feddag_flwr.data.images import LabelledImages
from feddag_flwr.models.registry import build_model
from feddag_flwr.settings import Settings
from feddag_flwr.training.device import DeviceError, Samples, check_memory, prepare_device

CPU = torch.device("cpu")


def make_samples(count):
    data = LabelledImages(np.zeros((count, 1, 8, 8), np.uint8), np.zeros(count, np.int64))
    return Samples.on(CPU, data, ((0.0, 1.0),))


def test_the_number_of_threads_is_the_settings():
    before = torch.get_num_threads()
    try:
        assert prepare_device(Settings(**{"threads": 2, "device": "cpu"})) == CPU
        assert torch.get_num_threads() == 2
        prepare_device(Settings(**{"threads": 1}))
        assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(before)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_missing_gpu_is_named():
    with pytest.raises(DeviceError, match="device = 'cuda:3': 0 CUDA devices"):
        prepare_device(Settings(**{"device": "cuda:3"}))


def test_the_cap_on_memory_refuses_what_does_not_fit():
    # 20,000 images of 64 bytes and 64 features of 4 bytes: 6.4 MB, and the model's 16 bytes a
    # parameter: 17,258 parameters, 0.3 MB; together about 6.4 MiB.
    model = build_model("small", (1, 8, 8), 10, dual=False, seed=1)
    samples = make_samples(20_000)
    check_memory(Settings(), samples, model)
    check_memory(Settings(**{"device-memory": 7}), samples, model)
    with pytest.raises(DeviceError, match="needs about 6 MiB for 20000 images, setting device-m"):
        check_memory(Settings(**{"device-memory": 5}), samples, model)

"""Training as the server simulates it is the client's, and images come of it."""

import numpy as np
import pytest
import torch
from torch import nn

from feddag_flwr.data.samples import LabelledSamples
from feddag_flwr.models.flat import get_parts
from feddag_flwr.training.settings import LocalTrainingSettings
from feddag_lab.attacks.clipped_noise import ClippedNoise, StrongClippedNoise
from feddag_lab.attacks.gradient_matching import (
    Observed,
    Search,
    mismatch,
    search,
    simulated,
    total_variation,
)
from feddag_lab.attacks.inversion import _seen_in_profile, _seen_in_update
from feddag_lab.attacks.victim import NoReplyError, client_with, scale_of

SETTINGS = LocalTrainingSettings(learning_rate=0.05, momentum=0.5, weight_decay=0.01)
NAMES = ("odd", "even", "none")
PLAIN = (torch.zeros(1, 1, 1), torch.ones(1, 1, 1))


def small_network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(16, 12), nn.Tanh(), nn.Linear(12, 3))


def batch(count=2):
    torch.manual_seed(1)
    return torch.rand(count, 1, 4, 4), torch.arange(count) % 3


def moved_by_pytorch(network, inputs, labels, passes):
    """How torch.optim moves a copy of the network."""
    before = [parameter.detach().clone() for parameter in network.parameters()]
    for steps in passes:
        optimiser = torch.optim.SGD(
            network.parameters(),
            lr=SETTINGS.learning_rate,
            momentum=SETTINGS.momentum,
            weight_decay=SETTINGS.weight_decay,
        )
        for _ in range(steps):
            optimiser.zero_grad()
            nn.functional.cross_entropy(network(inputs), labels).backward()
            optimiser.step()
    return [
        after.detach() - start for after, start in zip(network.parameters(), before, strict=True)
    ]


@pytest.mark.parametrize("passes", [[1], [4], [2, 3]])
def test_the_simulation_is_pytorchs_own_descent(passes):
    mine = simulated(small_network(), *batch(), SETTINGS, passes)
    for move, expected in zip(
        mine, moved_by_pytorch(small_network(), *batch(), passes), strict=True
    ):
        torch.testing.assert_close(move.detach(), expected, atol=1e-6, rtol=1e-4)


def test_the_gradient_is_read_from_one_step():
    network, (inputs, labels) = small_network(), batch()
    moved = moved_by_pytorch(small_network(), inputs, labels, [1])
    slopes = torch.autograd.grad(
        nn.functional.cross_entropy(network(inputs), labels), list(network.parameters())
    )
    for found, slope in zip(Observed(network, moved).gradients(SETTINGS, [1]), slopes, strict=True):
        torch.testing.assert_close(found, slope, atol=1e-5, rtol=1e-3)


def test_a_constant_gradient_is_read_from_many_steps():
    """Without decay a linear loss has one gradient: 3 steps of momentum 0.5 go 1 + 1.5 + 1.75."""
    network = nn.Sequential(nn.Linear(2, 1))
    settings = LocalTrainingSettings(learning_rate=0.1, momentum=0.5, weight_decay=0.0)
    moved = [torch.full((1, 2), -0.1 * 4.25), None]
    weight, bias = Observed(network, moved).gradients(settings, [3])
    torch.testing.assert_close(weight, torch.ones(1, 2))
    assert not bias.any()


def test_the_true_images_do_not_mismatch_and_what_is_not_told_does_not_count():
    moved = moved_by_pytorch(small_network(), *batch(), [2])
    observed = Observed(small_network(), [*moved[:2], None, None])
    assert float(mismatch([observed], *batch(), SETTINGS, [2]).detach()) == pytest.approx(
        0, abs=1e-4
    )
    others = torch.flip(batch()[0], [0])
    assert float(mismatch([observed], others, batch()[1], SETTINGS, [2]).detach()) > 0.01


@pytest.mark.parametrize("passes", [[1], [3]])
def test_one_image_is_found(passes):
    inputs, labels = batch(1)
    observed = Observed(small_network(), moved_by_pytorch(small_network(), inputs, labels, passes))
    found = search(
        [observed], labels, (1, 4, 4), PLAIN, SETTINGS, passes, Search(smoothness=0.0), seed=0
    )
    assert float((found.images - inputs).abs().max()) < 0.02
    assert found.mismatch < 1e-3


def test_an_update_of_noise_shows_no_image():
    torch.manual_seed(4)
    moved = [torch.randn_like(parameter) for parameter in small_network().parameters()]
    labels = torch.tensor([0])
    observed = Observed(small_network(), moved)
    found = search([observed], labels, (1, 4, 4), PLAIN, SETTINGS, [1], Search(), seed=0)
    assert found.mismatch > 0.3
    assert float((found.images - batch(1)[0]).square().mean()) > 0.05


def test_total_variation_by_hand():
    """Down: 1 and 0; across: 0 and 1."""
    image = torch.tensor([[[[0.0, 0.0], [1.0, 0.0]]]])
    assert float(total_variation(image)) == pytest.approx(0.5 + 0.5)


def few_images(count=3):
    rng = np.random.default_rng(2)
    samples = rng.integers(0, 256, (count, 1, 8, 8), dtype=np.uint8)
    return LabelledSamples(samples, np.arange(count) % 2)


@pytest.fixture
def client():
    images = few_images()
    with client_with(images, NAMES, scale_of(images), {"local-epochs": 2}) as victim:
        yield victim


def mismatch_of(seen, victim):
    images = torch.from_numpy(victim.train_part.samples / np.float32(255))
    mean, deviation = victim.scale[0]
    labels = torch.from_numpy(victim.train_part.labels)
    return float(
        mismatch(
            seen.networks,
            (images - mean) / deviation,
            labels,
            victim.settings.training,
            seen.passes,
        )
    )


def test_what_a_client_sends_is_what_the_server_simulates(client):
    """Both networks, through the app's own messages and its own training."""
    seen = _seen_in_update(client, get_parts(client.model()))
    assert len(seen.networks) == 2
    assert seen.passes == [2]
    assert mismatch_of(seen, client) == pytest.approx(0, abs=1e-4)


def test_so_is_the_encoder_of_its_profile(client):
    seen = _seen_in_profile(client)
    assert [moved is None for moved in seen.networks[0].moved] == [False] * 4 + [True] * 2
    assert seen.passes == [10, 10]
    assert mismatch_of(seen, client) == pytest.approx(0, abs=1e-4)


@pytest.mark.parametrize("transport", ["float16", "bfloat16"])
def test_of_half_precision_the_rounded_start_is_known(transport):
    images = few_images()
    config = {"local-epochs": 1, "transport": transport}
    with client_with(images, NAMES, scale_of(images), config) as victim:
        seen = _seen_in_update(victim, get_parts(victim.model()))
        assert 0 < mismatch_of(seen, victim) < 1e-3


def test_a_client_that_refuses_is_told():
    images = few_images()
    with client_with(images, NAMES, scale_of(images), {"aggregator": "median"}) as victim:
        parts = {**get_parts(victim.model())}
        del parts["classifier"]
        with pytest.raises(NoReplyError, match="victim"):
            victim.train(parts)


@pytest.mark.parametrize(
    ("postprocessor", "noise"), [(ClippedNoise, 1e-4), (StrongClippedNoise, 1e-3)]
)
def test_clipping_and_noise_are_as_they_say(client, postprocessor, noise):
    start = get_parts(client.model())["primary"]
    far = start.floats + np.float32(1)
    moved = type(start)(far, start.buffers, start.integers)
    sent = postprocessor().on_client({"primary": moved}, {"primary": start}, None)["primary"]
    count = len(far)
    shift = sent.floats - start.floats
    # A step of 1 in every weight has length sqrt(count) and is cut to 0.05.
    assert shift.mean() == pytest.approx(0.05 / np.sqrt(count), abs=4 * noise / np.sqrt(count))
    assert shift.std() == pytest.approx(noise, rel=0.05)

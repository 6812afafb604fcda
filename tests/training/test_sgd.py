import pytest
import torch

from feddag_flwr.local_training import LocalTrainingConfig
from feddag_flwr.optimisers.sgd import SGD


@pytest.mark.parametrize("momentum", [0.0, 0.5])
@pytest.mark.parametrize("decay", [0.0, 1e-2])
def test_it_is_pytorchs_own_to_the_bit(momentum, decay):
    config = LocalTrainingConfig(learning_rate=0.1, momentum=momentum, weight_decay=decay)
    ended = []
    for own in (True, False):
        torch.manual_seed(3)
        model = torch.nn.Sequential(
            torch.nn.Conv2d(1, 4, 3), torch.nn.Flatten(), torch.nn.Linear(144, 5)
        )
        unused = torch.nn.Parameter(torch.ones(3))
        parameters = [*model.parameters(), unused]
        optimizer = (
            SGD(parameters, config)
            if own
            else torch.optim.SGD(
                parameters, lr=0.1, momentum=momentum, weight_decay=decay, fused=True
            )
        )
        for _ in range(5):
            optimizer.zero_grad()
            model(torch.randn(6, 1, 8, 8)).square().mean().backward()
            optimizer.step()
        ended.append(parameters)
    for one, other in zip(*ended, strict=True):
        assert torch.equal(one, other)
    assert unused.tolist() == [1, 1, 1]


def test_a_step_without_gradients_changes_nothing():
    parameter = torch.nn.Parameter(torch.ones(3))
    optimizer = SGD([parameter], LocalTrainingConfig())
    optimizer.step()
    parameter.grad = torch.ones(3)
    optimizer.zero_grad()
    assert parameter.grad is None
    assert parameter.tolist() == [1, 1, 1]

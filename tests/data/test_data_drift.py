import numpy as np
import pytest

from feddag_flwr.data.client import ClientData
from feddag_flwr.data.datasets import load_dataset
from feddag_flwr.data.drift import drifted_parts
from feddag_flwr.data.newcomers import joining_round, late_clients
from feddag_flwr.data.plan import make_plan
from feddag_flwr.data.samples import DataError
from feddag_flwr.data.scenarios import load_client_data
from feddag_flwr.settings import Settings


def _settings(**values):
    return Settings.from_run_config({key.replace("_", "-"): value for key, value in values.items()})


def _client(settings, partition, server_round=0) -> ClientData:
    node = {"partition-id": partition, "num-partitions": settings.run.num_clients}
    return load_client_data(settings, node, server_round)


def _parts(settings):
    plan = make_plan(load_dataset(settings), settings)
    return plan, drifted_parts(plan, settings.data.drift_share, settings.run.seed)


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("share", [0.2, 0.5, 1.0])
def test_drifting_clients_swap_parts_across_groups(seed, share):
    settings = _settings(num_clients=40, drift_share=share, seed=seed)
    plan, parts = _parts(settings)
    assert len(parts) == round(40 * share)
    assert sorted(parts) == sorted(parts.values())  # nobody's part is lost or doubled
    for client, part in parts.items():
        assert plan.true_group(client) != plan.true_group(part)


def test_a_group_with_more_than_half_keeps_as_few_parts_as_it_must():
    most = 0
    for seed in range(40):
        plan, parts = _parts(
            _settings(num_clients=24, client_groups=2, drift_share=0.34, seed=seed)
        )
        sizes = np.bincount([plan.true_group(client) for client in parts], minlength=2)
        kept = sum(plan.true_group(a) == plan.true_group(b) for a, b in parts.items())
        assert kept == max(0, 2 * sizes.max() - sizes.sum())
        most = max(most, kept)
    assert most > 0


def test_where_no_groups_are_known_everybody_gets_anothers_part():
    plan, parts = _parts(_settings(scenario="lda", num_clients=11, drift_share=1.0))
    assert plan.true_groups is None
    assert [parts[client] for client in range(11)] == [*range(5, 11), *range(5)]


def test_a_drifted_client_has_the_others_data_and_group_under_its_own_name():
    settings = _settings(drift_share=0.3, drift_round=4, concepts=3)
    _, parts = _parts(settings)
    client, part = next(iter(parts.items()))
    before, other, after = _client(settings, client, 3), _client(settings, part), None
    assert (before.train.samples == _client(settings, client).train.samples).all()
    for server_round in (4, 50):
        after = _client(settings, client, server_round)
        assert after.name == before.name
        assert after.true_group == other.true_group != before.true_group
        for mine, theirs in ((after.train, other.train), (after.test, other.test)):
            assert (mine.samples == theirs.samples).all()
            assert (mine.labels == theirs.labels).all()
    steady = next(index for index in range(20) if index not in parts)
    assert (
        _client(settings, steady, 9).train.labels == _client(settings, steady).train.labels
    ).all()


def test_clients_of_one_group_cannot_drift():
    settings = _settings(drift_share=0.5, label_skew=100.0, client_groups=1)
    with pytest.raises(
        DataError, match=r"drift-share = 0.5: the 10 clients drawn by seed 1 are of"
    ):
        _client(settings, 0, 5)
    assert len(_client(settings, 0, 4).train)


def test_late_clients_are_drawn_by_seed():
    settings = _settings(newcomer_share=0.25)
    late = late_clients(settings)
    assert len(late) == 5
    assert late <= set(range(20))
    assert late == late_clients(_settings(newcomer_share=0.25, drift_share=0.5))
    assert late != late_clients(_settings(newcomer_share=0.25, seed=2))
    assert late_clients(_settings()) == frozenset()


def test_late_clients_join_in_their_round():
    settings = _settings(newcomer_share=0.25, newcomer_round=7)
    late = late_clients(settings)
    for partition in range(settings.run.num_clients):
        node = {"partition-id": partition, "num-partitions": settings.run.num_clients}
        assert joining_round(settings, node) == (7 if partition in late else 0)
        assert joining_round(_settings(), node) == 0

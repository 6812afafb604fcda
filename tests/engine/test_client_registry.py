import logging

import numpy as np
import pytest
from memory_grid import MemoryGrid, quick_settings

from feddag_flwr.engine.registration import (
    check_fit,
    merge_class_names,
    register_clients,
    sample_scale,
    wait_for_nodes,
)
from feddag_flwr.federation.client_registry import ClientRegistry
from feddag_flwr.federation.errors import FederationError
from feddag_flwr.federation.exchange import Exchange
from feddag_flwr.modalities import SampleSpec, load_modality
from feddag_flwr.records import Description, Limits, RecordError


def roll(settings, grid):
    registry = ClientRegistry()
    exchange = Exchange(
        grid,
        settings.deployment.max_in_flight,
        registry,
        Limits(settings.deployment.max_client_samples),
    )
    return register_clients(exchange, settings, registry), registry


def test_clients_come_in_the_order_of_names_whatever_the_nodes():
    settings = quick_settings()
    configs = [{"partition-id": i, "num-partitions": 6} for i in (4, 2, 0, 5, 1, 3)]
    descriptions, registry = roll(settings, MemoryGrid(settings, node_configs=configs))
    names = [each.client for each in descriptions]
    assert names == sorted(names)
    assert [registry.nodes[name] for name in names] == [103, 105, 102, 106, 101, 104]
    assert registry.name_of(999) == "on node 999"


def test_too_few_nodes_end_the_wait_with_how_many_came():
    settings = quick_settings(num_clients=6)
    grid = MemoryGrid(settings, nodes=3)
    with pytest.raises(FederationError, match=r"3 of 6 nodes came within 0.2 s \(settings num-cl"):
        wait_for_nodes(Exchange(grid, 1, ClientRegistry(), Limits(9)), settings)


def test_late_nodes_are_waited_for():
    settings = quick_settings(join_timeout=30.0)
    grid = MemoryGrid(settings)
    everybody, looks = set(grid.connected), []
    grid.get_node_ids = lambda: sorted(everybody)[
        : 3 if not looks.append(1) and len(looks) < 2 else 6
    ]
    assert wait_for_nodes(Exchange(grid, 1, ClientRegistry(), Limits(9)), settings) == sorted(
        everybody
    )


def change(reply, key, value):
    reply.content.config_records["info"][key] = value
    return reply


def test_another_image_size_and_a_second_bearer_of_a_name_are_left_out(caplog):
    settings = quick_settings()

    def tamper(partition, action, reply):
        if action != "query.describe":
            return reply
        if partition == 1:
            return change(reply, "sample-shape", [1, 9, 8])
        if partition == 4:
            return change(reply, "client", "client-0")
        return reply

    with caplog.at_level(logging.WARNING, logger="flwr"):
        descriptions, registry = roll(settings, MemoryGrid(settings, tamper=tamper))
    assert [each.client for each in descriptions] == [
        "client-0",
        "client-2",
        "client-3",
        "client-5",
    ]
    assert registry.nodes["client-0"] == 101
    assert (
        "client client-1 is left out: samples are 9 x 8 with 1 channel(s), those of the "
        "federation 8 x 8 with 1 channel(s)" in caplog.text
    )
    assert (
        "client on node 105 is left out: client 'client-0': name 'client-0' belongs to another node"
        in caplog.text
    )


def test_fewer_than_two_usable_clients_are_an_error():
    settings = quick_settings()

    def tamper(partition, action, reply):
        broken = partition and action == "query.describe"
        return change(reply, "train-samples", 0) if broken else reply

    with pytest.raises(FederationError, match="1 usable clients of 6 nodes"):
        roll(settings, MemoryGrid(settings, tamper=tamper))


EIGHT = SampleSpec((1, 8, 8)), load_modality("image")


def described(*class_names):
    return Description("x", class_names, (1, 8, 8), 1, 1, ((0.5, 0.3),))


def test_the_sample_scale_is_that_of_all_pixels_together():
    # 1 sample with pixels 0 and 1, 3 samples all 1: mean 7 / 8, variance 7 / 8 - 49 / 64 = 7 / 64
    descriptions = [
        Description("a", ("x",), (1, 1, 2), 1, 1, ((0.5, 0.5),)),
        Description("b", ("x",), (1, 1, 2), 3, 1, ((1.0, 1.0),)),
    ]
    found = sample_scale(descriptions, standardise=True)
    np.testing.assert_allclose(found, [(7 / 8, np.sqrt(7) / 8)])
    assert sample_scale(descriptions, standardise=False) == ((0.0, 1.0),)
    # A constant image has no deviation to divide by.
    assert sample_scale(descriptions[1:], standardise=True) == ((0.0, 1.0),)


@pytest.mark.parametrize(
    ("lists", "expected"),
    [
        ([("b", "a"), ("b", "a")], ("b", "a")),
        ([("b",), ("a", "c")], ("a", "b", "c")),
        ([("0", "1", "10"), ("0", "2")], ("0", "1", "2", "10")),
    ],
)
def test_classes_are_matched_by_name(lists, expected):
    assert merge_class_names([described(*each) for each in lists]) == expected


def test_classes_that_differ_in_writing_only_are_warned_of(caplog):
    with caplog.at_level(logging.WARNING, logger="flwr"):
        found = merge_class_names([described("bag", "Boot"), described("bag", "boot")])
    assert found == ("Boot", "bag", "boot")
    assert "'Boot' and 'boot' differ in case, spaces or Unicode form only" in caplog.text
    caplog.clear()
    merge_class_names([described("bag", "boot"), described("bag")], ("bag", "boot"))
    assert not caplog.records


def test_a_newcomer_s_class_in_another_writing_is_named_with_the_one_meant():
    with pytest.raises(RecordError, match=r"class 'Boot' is unknown here; .*; 'Boot' and 'boot' d"):
        check_fit(
            described("bag", "Boot"), ("bag", "boot"), SampleSpec((1, 8, 8)), load_modality("image")
        )
    check_fit(
        described("caf\u00e9"), ("cafe\u0301",), SampleSpec((1, 8, 8)), load_modality("image")
    )
    with pytest.raises(RecordError, match=r"class 'eel' is unknown here; .* bag, boot$"):
        check_fit(
            described("bag", "eel"), ("bag", "boot"), SampleSpec((1, 8, 8)), load_modality("image")
        )


def test_a_node_that_never_says_who_it_is_is_waited_for_as_long_as_one_that_never_comes(
    caplog, clock
):
    settings = quick_settings(join_timeout=40.0, round_timeout=600.0)

    def tamper(partition, action, reply):
        return None if partition == 3 else reply

    start = clock.monotonic()
    with caplog.at_level(logging.WARNING, logger="flwr"):
        descriptions, _ = roll(settings, MemoryGrid(settings, tamper=tamper))
    assert len(descriptions) == 5
    assert 40.0 <= clock.monotonic() - start < 60.0
    assert "on node 104 is left out: no reply within 40 s" in caplog.text

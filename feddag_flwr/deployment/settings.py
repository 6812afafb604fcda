"""Section ``deployment``: clients that come late, fail or are not to be trusted."""

from __future__ import annotations

from typing import Literal

from feddag_flwr.sections import Section, advanced, setting

# Algorithms of whose replies a cluster's model is made, so that members can judge them one by one.
JUDGED = ("feddag", "fedavg", "fedprox", "oracle", "pacfl", "cfl", "cfl-gp", "fedgwc")


class DeploymentSettings(Section):
    """What is done about clients that come late, fail or are not to be trusted."""

    min_clients: int = setting(
        0,
        "Clients that are enough to begin with once a wait is over; 0: num-clients to meet, 2 "
        "profiles",
        ge=0,
        le=100_000,
        may_differ=True,
    )
    identity: Literal["name", "node"] = advanced(
        "name",
        "Whom a name belongs to: whoever bears it while its node is gone (name), or for good to "
        "the node that came with it first (node: where nodes are authenticated)",
    )
    max_in_flight: int = advanced(
        50,
        "Messages under way at once; bounds the server's memory",
        ge=1,
        le=10_000,
        machine=True,
        may_differ=True,
    )
    join_timeout: float = advanced(
        120.0,
        "Wait for num-clients nodes to come, and for each to say who it is",
        gt=0,
        le=86_400,
        unit="seconds",
        machine=True,
        may_differ=True,
    )
    profile_timeout: float = advanced(
        1800.0,
        "Wait for a profile, from when it is asked for",
        gt=0,
        le=86_400,
        unit="seconds",
        machine=True,
        may_differ=True,
    )
    round_timeout: float = setting(
        600.0,
        "Wait for a reply in a round, from when it is asked for",
        gt=0,
        le=86_400,
        unit="seconds",
        machine=True,
        may_differ=True,
    )
    max_reply_size: int = advanced(
        512,
        "A deployed node's reply that is larger is refused as it comes",
        ge=1,
        le=65_536,
        unit="MB",
        machine=True,
        may_differ=True,
    )
    max_client_samples: int = advanced(
        10_000_000, "Sample counts above this are rejected as untrue", ge=1, unit="samples"
    )
    max_weight_share: float = advanced(
        1.0,
        "What one member's samples count at most of a cluster's in aggregation; of fewer members "
        "than that allows, all count alike",
        gt=0,
        le=1,
    )
    assumed_liars: float = advanced(
        0.2,
        "Share of a cluster's members that trimmed-mean and multi-krum withstand",
        ge=0,
        lt=0.5,
    )
    judges: int = advanced(
        0,
        "Members of a cluster that judge each update on their own data, where the aggregator does "
        "not outvote a liar; harmful updates are left out, clients that send more of them than "
        "others are quarantined; 0: nobody",
        ge=0,
        le=100,
    )
    max_update_ratio: float = advanced(
        100.0, "Updates longer than this many times the round's median are rejected", ge=1, le=1e12
    )

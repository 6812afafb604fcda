"""The scenarios: which data a client has (setting ``scenario`` and those that vary it)."""

from collections.abc import Callable, Hashable
from dataclasses import replace
from functools import lru_cache, partial

import numpy as np
from numpy.typing import NDArray

from feddag_flwr.data.cache import Array, ArrayCache
from feddag_flwr.data.classes import in_classes
from feddag_flwr.data.client import (
    ClientData,
    NodeConfig,
    partition_name,
    read_partition_id,
    read_text,
)
from feddag_flwr.data.datasets import load_dataset
from feddag_flwr.data.drift import looks_in_round, part_in_round
from feddag_flwr.data.holdout import hold_back
from feddag_flwr.data.newcomers import comes_unlabelled
from feddag_flwr.data.own import load_own_data
from feddag_flwr.data.partition import client_indices
from feddag_flwr.data.plan import Plan, PlanKey, make_plan
from feddag_flwr.data.samples import DataError, Dataset, LabelledSamples
from feddag_flwr.data.settings import class_list
from feddag_flwr.data.variation import Variation, map_labels, turn, with_looks
from feddag_flwr.modalities.base import SampleSpec
from feddag_flwr.seeds import generator
from feddag_flwr.settings import Settings

__all__ = ["ClientData", "load_client_data"]

# What a process keeps, for to corrupt images takes far longer than to select them: CIFAR-10's test
# images under 17 kinds and its training images once are 0.7 GB.
KEPT_BYTES = 2**30


def load_client_data(
    settings: Settings,
    node_config: NodeConfig,
    server_round: int = 0,
    spec: SampleSpec | None = None,
) -> ClientData:
    """Load the data that the client on this node has in a round.

    The test part holds all test samples of the classes that the client's training data has (in its
    domain, where there are any), varied as its training part is. Clients of equal classes and
    variation have equal test parts: the draws of a corruption there depend on its kind and severity
    and not on the client. Where the setting ``class-names`` names classes, labels are in that
    order. ``validation-share`` of the training part is held back, drawn by seed and client: in the
    same data the same samples in every round. A validation part of the client's own takes its
    place.

    Parameters
    ----------
    settings : Settings
    node_config : mapping
        Flower's node config: ``partition-id`` and ``num-partitions`` in simulation; in deployment
        ``partition-id`` or, for scenario own, ``data-path``. ``client-name`` is optional.
    server_round : int, optional
        The round, 0 before the first: in a simulation some clients' data drifts
        (`feddag_flwr.data.drift`). A client's own files are read as they are now.
    spec : SampleSpec, optional
        What a client's own images are brought to; by default the form that most of them have.

    Raises
    ------
    DataError
        Node config, data, split or classes are not as they must be.
    """
    if settings.data.scenario == "own":
        data = load_own_data(settings, node_config, spec)
    elif "data-path" in node_config:
        raise DataError(
            f"node config data-path = {node_config['data-path']!r}: only scenario = 'own' takes "
            f"it, but scenario = {settings.data.scenario!r}"
        )
    else:
        data = _take_part(settings, node_config, server_round)
    for part, samples in (("train", data.train), ("test", data.test)):
        if not len(samples) and (data.labelled or part == "train"):
            raise DataError(
                f"client {data.name!r}: no {part} samples of the classes it holds; "
                "expected at least one"
            )
    share = settings.data.validation_share
    if not share and data.validation is not None:
        data = replace(data, validation=None)
    elif share and data.validation is None:  # else the client has one of its own
        train, validation = hold_back(data.train, share, settings.run.seed, client=data.name)
        data = replace(data, train=train, validation=validation)
    return in_classes(data, class_list(settings.data.class_names) or data.class_names)


def _take_part(settings: Settings, node_config: NodeConfig, server_round: int) -> ClientData:
    """Take one client's part of a common dataset and vary it."""
    client = read_partition_id(settings, node_config)
    name = read_text(node_config, "client-name") or partition_name(client, settings.run.num_clients)
    dataset = load_dataset(settings)
    plan = make_plan(dataset, settings)
    part = part_in_round(settings, plan, client, server_round)
    variation, looks = plan.variation(part), looks_in_round(settings, client, server_round)
    train = _train_part(dataset, settings, plan, part)
    test = _test_part(dataset, settings.run.seed, plan.counts[part] > 0, variation)
    data = ClientData(
        name=name,
        train=with_looks(_varied(train, variation, plan.num_classes), looks),
        test=with_looks(_varied(test, variation, plan.num_classes), looks),
        class_names=dataset.class_names,
        true_group=plan.true_group(part),
        spec=dataset.spec,
    )
    return data.without_labels() if comes_unlabelled(settings, client) else data


def _varied(part: LabelledSamples, variation: Variation, num_classes: int) -> LabelledSamples:
    """Turn the images, and map the strata to classes and these to the labels of the concept."""
    labels = map_labels(part.labels % num_classes, variation.concept, num_classes)
    return LabelledSamples(turn(part.samples, variation.quarter_turns), labels)


@lru_cache(maxsize=2)
def _kept(dataset: Dataset) -> ArrayCache:
    """Return what this process keeps of a dataset's parts: indices and corrupted images."""
    return ArrayCache(KEPT_BYTES)


def _train_part(dataset: Dataset, settings: Settings, plan: Plan, client: int) -> LabelledSamples:
    """Select a partition's training samples; corrupt them with draws of the partition's own."""
    key = PlanKey.of(settings), client
    indices = _kept(dataset).recall(
        ("indices", key),
        lambda: client_indices(dataset.train.labels, plan.counts, client, settings.run.seed),
    )
    part = dataset.train.select(indices)
    kind, severity = plan.variation(client).corruption, plan.variation(client).severity
    if not kind:
        return part
    name = partition_name(client, settings.run.num_clients)
    rng = generator(settings.run.seed, f"corrupt-train-{kind}-{severity}", client=name)
    images = _corrupted(dataset, ("train", key), lambda: part.samples, kind, severity, rng)
    return LabelledSamples(images, part.labels)


def _test_part(
    dataset: Dataset, seed: int, held: NDArray[np.bool_], variation: Variation
) -> LabelledSamples:
    """Select the test samples of the strata held; corrupt each stratum once a process."""
    indices = np.flatnonzero(held[dataset.test.labels])
    if not variation.corruption:
        return dataset.test.select(indices)
    labels, kind, severity = dataset.test.labels[indices], variation.corruption, variation.severity
    images = np.empty((len(indices), *dataset.sample_shape), dataset.test.samples.dtype)
    for stratum in np.flatnonzero(held).tolist():
        of_stratum = partial(np.compress, dataset.test.labels == stratum, dataset.test.samples, 0)
        rng = generator(seed, f"corrupt-test-{kind}-{severity}-stratum-{stratum}")
        key = ("test", seed, stratum, kind, severity)
        images[labels == stratum] = _corrupted(dataset, key, of_stratum, kind, severity, rng)
    return LabelledSamples(images, labels)


def _corrupted(
    dataset: Dataset,
    key: Hashable,
    images: Callable[[], Array],
    kind: str,
    severity: int,
    rng: np.random.Generator,
) -> Array:
    """Corrupt images of a dataset, or return what was kept of it under the key."""

    def make() -> Array:
        from feddag_flwr.data.corruptions import corrupt  # see tests/test_import_cost.py

        return corrupt(images(), kind, severity, rng)

    return _kept(dataset).recall(key, make)

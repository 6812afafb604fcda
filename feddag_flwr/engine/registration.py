"""Who takes part: from anonymous nodes to clients with names."""

from __future__ import annotations

import logging
import time
from collections import Counter, deque
from collections.abc import Collection, Iterable, Iterator, Mapping
from functools import partial

from feddag_flwr.aggregators import capped
from feddag_flwr.class_names import in_other_writing, unknown_classes, warn_of_similar_names
from feddag_flwr.data.settings import class_list
from feddag_flwr.federation.client_registry import ClientRegistry
from feddag_flwr.federation.errors import MIN_CLIENTS, FederationError
from feddag_flwr.federation.exchange import Exchange, Letter, Wait
from feddag_flwr.modalities import Modality, ModalityError, Rows, SampleSpec, load_modality
from feddag_flwr.records import (
    MAX_NAMES,
    DescribeRequest,
    Description,
    PrepareRequest,
    RecordError,
    Rejection,
)
from feddag_flwr.settings import Settings
from feddag_flwr.state import Client

logger = logging.getLogger("flwr")

# Seconds between two looks at which nodes are there.
JOIN_POLL = 0.5
# Height and width of images above which training is slow on most machines.
LARGE_SIDE = 224
# Weight of a client in the scale of samples, in medians of the clients' sample counts.
MOST_WEIGHT = 10


def wait_for_nodes(exchange: Exchange, settings: Settings) -> list[int]:
    """Wait for the nodes of a new run: ``num-clients``, or ``min-clients`` after a while."""
    enough = settings.deployment.min_clients or settings.run.num_clients
    return await_nodes(exchange, settings, settings.run.num_clients, enough=enough)


def await_nodes(exchange: Exchange, settings: Settings, expected: int, *, enough: int) -> list[int]:
    """Wait until so many nodes are there, or `enough` after ``join-timeout`` seconds; ascending.

    A `FederationError` says how many came of how many, and which settings decide.
    """
    deadline = time.monotonic() + settings.deployment.join_timeout
    seen = -1
    while True:
        nodes = exchange.nodes()
        if len(nodes) >= expected:
            return nodes
        if time.monotonic() < deadline:
            if len(nodes) != seen:
                seen = len(nodes)
                logger.info(
                    "%d of %d nodes are here; waiting %g s for the others (join-timeout)",
                    seen,
                    expected,
                    settings.deployment.join_timeout,
                )
            time.sleep(JOIN_POLL)
        elif len(nodes) >= enough:
            logger.warning("%d of %d nodes came: begin", len(nodes), expected)
            return nodes
        else:
            raise FederationError(
                f"{len(nodes)} of {expected} nodes came within "
                f"{settings.deployment.join_timeout:g} s "
                f"(settings num-clients, min-clients and join-timeout)"
            )


def register_clients(
    exchange: Exchange, settings: Settings, clients: ClientRegistry
) -> list[Description]:
    """Ask every node who it is, and keep the clients that agree on classes and samples, by name.

    A node that does not answer is waited for ``join-timeout`` seconds. A client that is not kept is
    told why. One that joins later, or has no labels, is not kept either. A `FederationError` says
    that fewer than two clients are left.
    """
    nodes = wait_for_nodes(exchange, settings)
    wait = Wait(settings.deployment.join_timeout, "join-timeout")
    described = dict(describe(exchange, nodes, 0, wait, deque()))
    labelled = {node: told for node, told in described.items() if told.labelled}
    modality = load_modality(settings.data.modality)
    spec = agreed_spec(labelled.values(), settings.data.modality) if labelled else None
    if spec is not None and modality.prepared_anew:
        _warn_of_large_images(spec, settings)
        labelled = _prepared(exchange, settings, labelled, spec, modality)
    allowed = class_list(settings.data.class_names) or believable_classes(labelled.values())
    descriptions = []
    refused = []
    for node_id in sorted(labelled, key=lambda node: (labelled[node].client, node)):
        description = labelled[node_id]
        if description.joins_in:
            continue
        name = description.client
        try:
            check_fit(description, allowed, spec, modality)
        except RecordError as error:
            refused.append(rejection(exchange, name, node_id, error))
            continue
        try:
            clients.claim(name, node_id, nodes)
        except RecordError as error:  # somebody else's name: the log is to name the node
            reason = RecordError(f"client {name!r}: {error}")
            refused.append(rejection(exchange, clients.name_of(node_id), node_id, reason))
            continue
        note_data(exchange, description, spec, modality)
        descriptions.append(description)
    exchange.tell(refused, settings.deployment.round_timeout)
    if len(descriptions) < MIN_CLIENTS:
        raise FederationError(
            f"{len(descriptions)} usable clients of {len(nodes)} nodes, "
            f"{MIN_CLIENTS} are needed at least; the log names the reasons"
        )
    return descriptions


def _warn_of_large_images(spec: SampleSpec, settings: Settings) -> None:
    if settings.data.modality == "image" and not settings.data.image_size:
        _, height, width = spec.shape
        if min(height, width) > LARGE_SIDE:
            logger.warning(
                "images are %d x %d pixels (width x height), on which training takes long; "
                "image-size = %d would make them smaller",
                width, height, LARGE_SIDE,
            )  # fmt: skip


def _prepared(
    exchange: Exchange,
    settings: Settings,
    described: Mapping[int, Description],
    spec: SampleSpec,
    modality: Modality,
) -> dict[int, Description]:
    """Have clients prepare their samples for the federation's spec, where they can and have to.

    They have ``profile-timeout`` seconds for it; who does not answer is left out. Clients whose
    samples are of that spec already, and told all about them, are not asked again.
    """
    others = [
        node
        for node, description in described.items()
        if _fits(description.spec, spec, modality)
        and not (description.spec == spec and description.sample_moments)
    ]
    if not others:
        return dict(described)
    unlike = [node for node in others if described[node].spec != spec]
    logger.info(
        "samples are %s, the most common; %d of %d clients have others, and bring them to that",
        modality.in_words(spec), len(unlike), len(described),
    )  # fmt: skip
    letters = (Letter(node, PrepareRequest(0, spec), "0") for node in sorted(others))
    wait = Wait(settings.deployment.profile_timeout, "profile-timeout")
    again = _answers(exchange, letters, wait, deque())
    return {node: told for node, told in described.items() if node not in others} | dict(again)


def _fits(own: SampleSpec, spec: SampleSpec, modality: Modality) -> bool:
    try:
        modality.check_fit(own, spec)
    except ModalityError:
        return False
    return True


def describe(
    exchange: Exchange,
    nodes: Iterable[int],
    server_round: int,
    wait: Wait,
    follow_ups: deque[Letter],
) -> Iterator[tuple[int, Description]]:
    """Yield what each node says of itself, as it comes; one that says nonsense is told."""
    letters = (describe_letter(node, server_round) for node in nodes)
    yield from _answers(exchange, letters, wait, follow_ups)


def _answers(
    exchange: Exchange, letters: Iterable[Letter], wait: Wait, follow_ups: deque[Letter]
) -> Iterator[tuple[int, Description]]:
    refuse = partial(refuse_node, follow_ups, exchange)
    for letter, description in exchange.stream(letters, wait, follow_ups, refuse=refuse):
        yield letter.node_id, description


def refuse_node(
    follow_ups: deque[Letter], exchange: Exchange, letter: Letter, reason: RecordError
) -> None:
    """Tell a node why what it says of itself is not believed."""
    name = exchange.clients.name_of(letter.node_id)
    follow_ups.append(rejection(exchange, name, letter.node_id, reason))


def describe_letter(node_id: int, server_round: int) -> Letter:
    """Make the question who a node is."""
    return Letter(node_id, DescribeRequest(server_round), str(server_round))


def note_data(
    exchange: Exchange, description: Description, spec: SampleSpec | None, modality: Modality
) -> None:
    """Note what of a client's data is left out, by itself and by the federation."""
    columns = () if spec is None else modality.left_out(description.spec, spec)
    exchange.left_out.note_data(description.client, description.files_left_out, columns)


def rejection(exchange: Exchange, name: str, node_id: int, reason: Exception) -> Letter:
    """Log why a client is left out, and make the message that tells its owner."""
    exchange.left_out.note_client(name, "describe", str(reason))
    logger.warning("describe: client %s is left out: %s", name, reason)
    return Letter(node_id, Rejection(str(reason)), "rejection")


def check_fit(
    description: Description,
    class_names: Collection[str],
    spec: SampleSpec | None,
    modality: Modality,
    *,
    may_become: bool = False,
) -> None:
    """Refuse a client with other samples than the federation has, or a class that it has not.

    Without any `class_names`, classes may be any. Samples that are prepared anew must be of the
    federation's spec by now, unless they `may_become` so still. The `RecordError` has both sides.
    """
    if spec is not None:
        exact = modality.prepared_anew and not may_become
        check = modality.check_same if exact else modality.check_fit
        try:
            check(description.spec, spec)
        except ModalityError as error:
            raise RecordError(str(error)) from error
    unknown = unknown_classes(description.class_names, class_names)
    if class_names and unknown:
        raise RecordError(
            f"class {unknown[0]!r} is unknown here; the federation has {', '.join(class_names)}"
            + in_other_writing(unknown, class_names)
        )


def client_of(description: Description) -> Client:
    """Return what the server keeps of a description."""
    return Client(description.client, description.train_samples, description.test_samples)


def believable_classes(descriptions: Iterable[Description]) -> tuple[str, ...]:
    """Return all classes that clients name; the most common ones where they are too many.

    One client that names hundreds of its own must not make a federation of them.
    """
    tally = Counter(name for description in descriptions for name in description.class_names)
    ranked = sorted(tally, key=lambda name: (-tally[name], name))
    return tuple(ranked[:MAX_NAMES])


def agreed_spec(descriptions: Iterable[Description], modality: str = "image") -> SampleSpec:
    """Return what the samples of a federation have in common, from what clients say of theirs.

    Clients count by their samples as in `sample_scale`.
    """
    told = sorted(descriptions, key=lambda description: description.client)
    counts = capped([description.train_samples for description in told], MOST_WEIGHT)
    return load_modality(modality).agreed([description.spec for description in told], counts)


def sample_scale(
    descriptions: list[Description], *, standardise: bool, modality: str = "image"
) -> Rows:
    """Return how the federation's samples become inputs, from what clients say of theirs.

    Each client counts by its samples, but by ten times the median at most, so that nobody sets the
    scale by claiming to have more; `descriptions` are in the order of names.
    """
    maker = load_modality(modality)
    spec = agreed_spec(descriptions, modality)
    if not standardise:
        return maker.plain_scale(spec)
    counts = capped([description.train_samples for description in descriptions], MOST_WEIGHT)
    moments = [maker.moments_in(spec, each.spec, each.sample_moments) for each in descriptions]
    return maker.scale(spec, moments, counts / counts.sum())


def merge_class_names(
    descriptions: list[Description], given: tuple[str, ...] = ()
) -> tuple[str, ...]:
    """Return the classes of the federation, matched by name.

    Those of the setting ``class-names`` where they are `given`, in that order. Else the common
    order where all clients have the same list, else all names sorted (as numbers where
    all are numbers). A warning names those that differ in writing only.
    """
    lists = {given} if given else {description.class_names for description in descriptions}
    names = next(iter(lists))
    if len(lists) > 1:
        logger.info("clients name different classes: %d lists, matched by name", len(lists))
        merged = set().union(*lists)
        numbers = all(name.isdecimal() for name in merged)
        names = tuple(sorted(merged, key=lambda name: (int(name) if numbers else 0, name)))
    warn_of_similar_names(names)
    return names

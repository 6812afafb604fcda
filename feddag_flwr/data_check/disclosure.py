"""What the server learns of a client: the client's own messages, made without training.

Sizes are those of the arrays as they travel: the replies are encoded by the code that the client
uses, and hold the true counts and vectors; only weights are those of an untrained model.
"""

from dataclasses import dataclass, replace

import numpy as np
import torch
from flwr.app import RecordDict
from numpy.typing import NDArray
from torch.nn import functional

from feddag_flwr.algorithms.feddag.messages import encode_profile
from feddag_flwr.client.introduction import introduce
from feddag_flwr.data.client import ClientData
from feddag_flwr.data_check.items import Item, nbytes_of
from feddag_flwr.data_check.private import (
    private_items,
    private_profile_of,
    promise_item,
    put_back,
)
from feddag_flwr.data_check.seen import SeenData, as_seen, seen_spec
from feddag_flwr.data_check.words import listed, plural, several
from feddag_flwr.metrics import Evaluation, load_metrics, metric_names
from feddag_flwr.modalities import load_modality
from feddag_flwr.modalities.columns import table_in_words
from feddag_flwr.models.dual_encoder import ClusterModel
from feddag_flwr.models.flat import get_parts, parameter_count
from feddag_flwr.models.registry import build_model
from feddag_flwr.profile import Profile, sparse_size
from feddag_flwr.records import Description, RequestHeader, TrainReply
from feddag_flwr.seeds import generator
from feddag_flwr.settings import Settings
from feddag_flwr.subspace_view import SubspaceView, make_view, view_name
from feddag_flwr.training.profile import class_subspaces, leading_directions, looks_of

# Samples compared with the vectors at a time.
_CHUNK = 256


@dataclass(frozen=True, eq=False)
class ClassVectors:
    """The principal vectors of one class, and the training sample that comes nearest to one."""

    label: int
    vectors: NDArray[np.float32]  # (p, d), p is 0 where they are kept back; private ones put back
    nearest: int  # number of a training sample
    likeness: float  # cosine of its angle to the nearest vector: at 1 it is that vector


def class_vectors(data: ClientData, settings: Settings) -> list[ClassVectors]:
    """Compute the vectors that the client's profile will hold, for each class that it has.

    Of a private profile they are an example: those sent have other noise. They are put back from
    projections to samples, as anybody who has them would do.
    """
    seen, view = as_seen(data, settings), view_of(data, settings)
    if settings.privacy.profile_on:
        vectors, classes = put_back(private_profile_of(data, settings), view, settings)
    else:
        rng = generator(settings.run.seed, "subspace-samples", client=data.name)
        vectors, classes = class_subspaces(seen.data.train, settings, rng, seen.scale, seen.spec)
    return [
        _compared(seen, int(label), vectors[classes == label], view)
        for label in np.unique(data.train.labels)
    ]


def view_of(data: ClientData, settings: Settings) -> SubspaceView:
    """Return what the vectors are of: samples, small images, or projections."""
    spec = seen_spec(data, settings)
    return make_view(view_name(settings.profile), settings.data.modality, spec, settings.run.seed)


def _compared(
    seen: SeenData, label: int, vectors: NDArray[np.float32], view: SubspaceView
) -> ClassVectors:
    train = seen.data.train
    members = np.flatnonzero(train.labels == label)
    nearest, likeness = int(members[0]), 0.0
    for start in range(0, len(members) if len(vectors) else 0, _CHUNK):
        chosen = members[start : start + _CHUNK]
        rows = view.matrix(train.samples[chosen], seen.scale)
        lengths = np.linalg.norm(rows, axis=1)
        cosines = np.abs(rows @ vectors.T.astype(np.float64)).max(axis=1)
        cosines /= np.where(lengths > 0, lengths, 1.0)
        if cosines.max() > likeness:
            nearest, likeness = int(chosen[cosines.argmax()]), float(min(cosines.max(), 1.0))
    return ClassVectors(label, vectors, nearest, likeness)


def disclosures(data: ClientData, vectors: list[ClassVectors], settings: Settings) -> list[Item]:
    """List what the server learns of a client by FedDAG, in the order in which it does.

    Classes are taken to be those of this client, or of the setting ``class-names`` where it names
    some: with more classes the classifier and the counts are longer.
    """
    if settings.privacy.profile_on:
        profile = private_items(private_profile_of(data, settings), _task(data, settings), settings)
    else:
        profile = _profile(data, vectors, settings)
    return _introduction(data, settings) + profile + _training(data, settings)


def _introduction(data: ClientData, settings: Settings) -> list[Item]:
    description, when = introduce(data, settings), "on joining"
    names = listed([repr(name) for name in description.class_names])
    samples = f"{description.train_samples:,} to train, {description.test_samples:,} to test"
    files = description.files_left_out
    of_samples = [Item(when, "samples", samples, 8 * 2), _moments(description, when)]
    left_out = [Item(when, "files left out", f"their number, {files:,}", 8)] if files else []
    return [
        Item(when, "name", repr(data.name), len(data.name.encode())),
        Item(when, "class names", names, sum(len(n.encode()) for n in description.class_names)),
        _form(description, when),
        *([] if settings.privacy.on else of_samples),
        *left_out,
    ]


def _form(description: Description, when: str) -> Item:
    """Tell what is said of the form of samples; of a table, each level of each category."""
    spec, nbytes = description.spec, 8 * len(description.sample_shape)
    if description.modality == "image":
        return Item(when, "image shape", " x ".join(map(str, spec.shape)), nbytes)
    if description.modality == "tabular":
        words = "; ".join(f"{name}: {content}" for name, content in table_in_words(spec))
        return Item(when, "columns and levels", words, nbytes + len(spec.details))
    words = load_modality(description.modality).in_words(spec)
    return Item(when, "form of the samples", words, nbytes + len(spec.details))


def _moments(description: Description, when: str) -> Item:
    rows = description.sample_moments
    nbytes = 8 * sum(map(len, rows))
    if description.modality == "image":
        words = [f"mean {mean:.4f}, mean square {square:.4f}" for mean, square in rows]
        return Item(when, "moments of the pixels", "; ".join(words), nbytes)
    kind = "share filled, mean and mean square" if description.modality == "tabular" else "moments"
    return Item(when, "moments", f"{kind}, {len(rows):,} times", nbytes)


def _task(data: ClientData, settings: Settings) -> RequestHeader:
    seen, metrics = as_seen(data, settings), metric_names(settings.run.metrics)
    return RequestHeader(
        data.name,
        1,
        data.class_names,
        seen.spec.shape,
        seen.modality.plain_scale(seen.spec),
        settings.run.transport,
        metrics=metrics,
        modality=settings.data.modality,
        sample_details=seen.spec.details,
    )


def _model(header: RequestHeader, settings: Settings, *, dual: bool) -> ClusterModel:
    return build_model(
        settings.training.model,
        header.sample_shape,
        len(header.class_names),
        dual=dual,
        seed=settings.run.seed,
        modality=header.modality,
        details=header.sample_details,
        normalisation=settings.training.normalisation_layer,
    )


def _profile(data: ClientData, vectors: list[ClassVectors], settings: Settings) -> list[Item]:
    header, classes = _task(data, settings), len(data.class_names)
    model = _model(header, settings, dual=False)
    encoder = get_parts(model)["primary"]
    coordinates = parameter_count(model)
    kept = sparse_size(coordinates, settings.profile.gradient_fraction)
    sent = np.concatenate([of.vectors for of in vectors])
    labels = np.repeat([of.label for of in vectors], [len(of.vectors) for of in vectors])
    counts = np.bincount(data.train.labels, minlength=classes)
    clustering = settings.clustering
    directions = looks = None
    seen = as_seen(data, settings)
    train, seen_as = seen.data.train, (seen.scale, seen.spec)
    if clustering.unlabelled == "place":
        directions = leading_directions(train.samples, settings, data.name, *seen_as)
    if clustering.looks_level:
        looks = looks_of(train, settings, classes, *seen_as)
    update_sent, of_rows = np.zeros(kept, np.float32), labels.astype(np.int64)
    profile = Profile(
        update_sent, sent, of_rows, counts.astype(np.int64), encoder, directions, looks
    )
    message = encode_profile(header, profile, encoder)
    when = "once, and again after drift"
    by_class = listed([f"{data.class_names[v.label]}: {len(v.vectors)}" for v in vectors])
    noun = load_modality(settings.data.modality).noun
    vectors_sent = f"{several(len(sent), noun)} of {sent.shape[1]:,} numbers ({by_class})"
    if (view := view_of(data, settings)).kind != "raw":
        vectors_sent += f"; {view.in_words()}"
    epochs = several(settings.profile.warmup_rounds * settings.profile.warmup_epochs, "epoch")
    update = f"{kept:,} of {coordinates:,} weights' changes after {epochs} on your data"
    weights = f"all its {encoder.floats.size:,} weights after these epochs"
    vectors_nbytes = nbytes_of(message, "vectors", "vector-classes")
    return [
        Item(when, "count of each class", f"{classes} numbers", nbytes_of(message, "counts")),
        Item(when, "principal vectors", vectors_sent, vectors_nbytes),
        Item(when, "sparse update", update, nbytes_of(message, "update")),
        Item(when, "trained encoder", weights, nbytes_of(message, "encoder.")),
        *_more_of_a_profile(profile, message, when),
    ]


def _more_of_a_profile(profile: Profile, message: RecordDict, when: str) -> list[Item]:
    """List what a profile holds only where a setting asks for it."""
    items = []
    if profile.directions is not None:
        words = f"{several(len(profile.directions.vectors), 'image')}, and their shares"
        nbytes = nbytes_of(message, "directions", "number.shares")
        items.append(Item(when, "principal vectors of all images together", words, nbytes))
    if profile.looks is not None:
        words = f"{profile.looks.size:,} numbers: mean features of each class"
        items.append(Item(when, "looks of the classes", words, nbytes_of(message, "number.looks")))
    return items


def _training(data: ClientData, settings: Settings) -> list[Item]:
    header, classes = _task(data, settings), len(data.class_names)
    dual = settings.sharing.dual
    model = _model(header, settings, dual=dual)
    parts = get_parts(model)
    trained = {part: parts[part] for part in ("primary", "classifier")}
    if dual:
        trained["transfer"] = parts["secondary"]
    labels = torch.from_numpy(data.test.labels)
    scores = functional.one_hot(labels, classes).float()
    judged = Evaluation.of(load_metrics(header.metrics), scores, labels, scores[:, 0])
    message = TrainReply(len(data.train), trained, trained, judged).encode(header)
    when = "each round it takes part in"
    one = settings.sharing.encoders == "one"
    encoder = "one encoder for clients of all clusters" if one else "the encoder"
    words = f"{parameter_count(model.primary):,} weights of {encoder}, "
    words += f"{parameter_count(model.classifier):,} of the classifier"
    items = [Item(when, "trained model", words, nbytes_of(message, "primary.", "classifier."))]
    if model.secondary is not None:
        words = f"{parameter_count(model.secondary):,} weights of {_second_encoder(settings)}"
        items.append(Item(when, "trained second encoder", words, nbytes_of(message, "transfer.")))
    tested = plural(load_modality(settings.data.modality).noun)
    words = f"of right answers and test {tested}, by class, and the mean loss"
    items.append(Item(when, "counts", words, nbytes_of(message, "received.") + 8))
    return items if not settings.privacy.training_on else _with_noise(items, settings)


def _with_noise(items: list[Item], settings: Settings) -> list[Item]:
    """Say of which items of a round private training covers what is told, and what it promises."""
    noisy = [
        replace(item, content=f"{item.content}, trained with noise")
        if item.what.startswith("trained")
        else item
        for item in items
    ]
    when = items[0].when
    told = Item(when, "number of training samples", "with noise, the same in each round", 8)
    return [*noisy, told, promise_item("in all rounds", settings)]


def _second_encoder(settings: Settings) -> str:
    if settings.sharing.secondary == "own":
        return "a second encoder, which your cluster alone receives"
    if settings.sharing.teacher_clusters == "all":
        return "a second encoder, which clients of all clusters train and receive"
    if settings.sharing.teacher_clusters == "agreeing":
        return "a second encoder, which clients of all clusters train and receive until some part"
    return "another cluster's encoder, where other clusters learn from the client's"

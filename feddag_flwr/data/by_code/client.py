"""A client's data from its own code."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from feddag_flwr.data.by_code.context import LoadContext
from feddag_flwr.data.by_code.images import ImageItems
from feddag_flwr.data.by_code.items import Items
from feddag_flwr.data.by_code.loading import load_parts, module_state
from feddag_flwr.data.by_code.tables import raw_table
from feddag_flwr.data.client import ClientData, NodeConfig, read_text
from feddag_flwr.data.datasets import reading_of
from feddag_flwr.data.holdout import stratified_test_indices, with_test_part
from feddag_flwr.data.images.form import ImageForm
from feddag_flwr.data.images.preparation import Reading
from feddag_flwr.data.labels import classes_of
from feddag_flwr.data.outline import Outline
from feddag_flwr.data.samples import DataError, LabelledSamples, Parts
from feddag_flwr.data.tables import TableOptions, labelled_parts
from feddag_flwr.modalities import SampleSpec, load_modality
from feddag_flwr.settings import Settings

logger = logging.getLogger("flwr")

# Clients whose data a process keeps.
KEPT = 16


def load_by_code(
    settings: Settings, node_config: NodeConfig, spec: SampleSpec | None = None
) -> ClientData:
    """Call the loader that ``dataset`` names, and prepare what it returns, once a process.

    Its validation part, where it has one, is ``validation``. Images are brought to the federation's
    `spec` where it is known.
    """
    source = _CodeSource.of(settings, node_config)
    with _named(source.context.client_name):
        return source.read(spec)


def load_with_origins(
    settings: Settings, node_config: NodeConfig
) -> tuple[ClientData, tuple[list[str], list[str]]]:
    """Load as `load_by_code` does, and name the item that each train and test sample is."""
    source = _CodeSource.of(settings, node_config)
    with _named(source.context.client_name):
        return source.read(None), source.origins()


def outline_by_code(settings: Settings, node_config: NodeConfig) -> Outline | None:
    """Return what is known before many images are read; None where they are read at once."""
    if settings.data.modality != "image":
        return None
    source = _CodeSource.of(settings, node_config)
    with _named(source.context.client_name):
        return source.outline()


@contextmanager
def _named(name: str) -> Iterator[None]:
    try:
        yield
    except DataError as error:
        raise error.of(f"client {name!r}") from error


class _CodeSource:
    """What a loader has returned for a client."""

    def __init__(
        self,
        reference: str,
        context: LoadContext,
        modality: str,
        reading: Reading,
        test_fraction: float,
        options: TableOptions,
    ) -> None:
        self.reference = reference
        self.context = context
        self.modality = modality
        self.test_fraction = test_fraction
        self.options = options
        loaded = load_parts(reference, context)
        self.parts = {
            name: Items(f"dataset = {reference!r}: {name}", part)
            for name, part in loaded.items().items()
        }
        if loaded.passed_over:
            logger.info("%s: parts passed over: %s", reference, ", ".join(loaded.passed_over))
        self.images = ImageItems(self.parts, reading, (reference, context, module_state(reference)))
        self._read: dict[SampleSpec | None, ClientData] = {}
        self._good: dict[str, list[int]] = {}
        self._left_out = 0
        self._held_out: NDArray[np.int64] | None = None

    @classmethod
    def of(cls, settings: Settings, node_config: NodeConfig) -> _CodeSource:
        """Find it among those of this process, or call the loader."""
        context = LoadContext.of(settings, node_config)
        reading = reading_of(settings, read_text(node_config, "cache-path") or "")
        with _named(context.client_name):
            return _source(
                settings.data.dataset, context, settings.data.modality, reading,
                settings.data.test_fraction, TableOptions.of(settings.data),
            )  # fmt: skip

    def outline(self) -> Outline | None:
        """Tell sizes and classes as far as some items do; None where there are few."""
        form = self.images.own_form
        if not self.images.is_large(form):
            return None
        names = self.parts["train"].class_names() or tuple(sorted(set(self.images.looked_labels())))
        train, test = len(self.parts["train"]), len(self.parts.get("test", ()))
        if not test:
            test = round(train * self.test_fraction)
            train -= test
        return Outline(self.context.client_name, names, form.spec, train, test)

    def read(self, spec: SampleSpec | None) -> ClientData:
        """Prepare all parts, once for each spec."""
        own = self.images.own_form.spec if self.modality == "image" else None
        key = own if spec is None or self.modality != "image" else spec
        if key not in self._read:
            self._read = {key: self._prepared(key)}  # no more than one form is in memory
        return self._read[key]

    def origins(self) -> tuple[list[str], list[str]]:
        """Name the items of the training and the test part, once they are read."""
        named = {part: [f"{part}[{i}]" for i in good] for part, good in self._good.items()}
        if self._held_out is None:
            return named["train"], named["test"]
        kept = np.setdiff1d(np.arange(len(named["train"])), self._held_out)
        return [named["train"][i] for i in kept], [named["train"][i] for i in self._held_out]

    def _prepared(self, spec: SampleSpec | None) -> ClientData:
        self._left_out = 0
        if self.modality == "tabular":
            labelled, names = self._tables()
        else:
            found = {name: self._samples(name, spec) for name in self.parts}
            labelled, names = self._labelled(found)
        parts = Parts(labelled["train"], labelled.get("test"), names, spec=spec)
        name, seed = self.context.client_name, self.context.seed
        kept, tested = with_test_part(
            parts, self.test_fraction, seed, origin=f"dataset = {self.reference!r}", client=name
        )
        if parts.test is None:
            labels = parts.train.labels
            self._held_out = stratified_test_indices(labels, self.test_fraction, seed, client=name)
        return ClientData(
            name,
            kept,
            tested,
            names,
            None,
            labelled.get("validation"),
            spec=spec,
            files_left_out=self._left_out,
            test_drawn=parts.test is None,
        )

    def _samples(self, part: str, spec: SampleSpec | None) -> tuple[NDArray[Any], list[str]]:
        if self.modality == "image":
            assert spec is not None
            prepared = self.images.prepare(ImageForm.of(spec), part)
            count = len(self.parts[part])
            self._left_out += len(prepared.bad)
            self._good[part] = [index for index in range(count) if index not in prepared.bad]
            return prepared.pixels, prepared.labels
        items = self.parts[part]
        self._good[part] = list(range(len(items)))
        pairs = [items[index] for index in range(len(items))]
        rows = [_vector(sample, items.place(index)) for index, (sample, _) in enumerate(pairs)]
        if self.modality == "series":
            rows = _padded(rows)
        odd = [index for index, row in enumerate(rows) if row.shape != rows[0].shape]
        if odd:
            raise DataError(
                f"{items.place(odd[0])} has shape {rows[odd[0]].shape}, item 0 has "
                f"{rows[0].shape}; all must be alike"
            )
        samples = load_modality(self.modality).accept(np.stack(rows), items.where)
        return samples, [label for _, label in pairs]

    def _tables(self) -> tuple[dict[str, LabelledSamples], tuple[str, ...]]:
        """Read all parts as tables, as files of them are."""
        raws = [
            raw_table(items.part, items.where, self.options.label) for items in self.parts.values()
        ]
        self._good = {
            part: list(range(len(raw))) for part, raw in zip(self.parts, raws, strict=True)
        }
        parts, names = labelled_parts(raws, self.options)
        return dict(zip(self.parts, parts, strict=True)), names

    def _labelled(
        self, found: dict[str, tuple[NDArray[Any], list[str]]]
    ) -> tuple[dict[str, LabelledSamples], tuple[str, ...]]:
        """Give all parts' classes their numbers."""
        texts = [(part, text) for part, (_, labels) in found.items() for text in labels]
        given = self.parts["train"].class_names()
        if given and not all(text.isdecimal() for _, text in texts):
            given = ()
        labels, names = classes_of(
            np.array([text for _, text in texts], dtype=np.str_),
            f"dataset = {self.reference!r}",
            renamed={},
            place=lambda index: f"a {texts[index][0]} item",
            given=given,
        )
        made, start = {}, 0
        for part, (samples, own) in found.items():
            made[part] = LabelledSamples(samples, labels[start : start + len(own)])
            start += len(own)
        return made, names


def _padded(series: list[NDArray[np.float32]]) -> list[NDArray[np.float32]]:
    """Bring series (steps,) or (steps, channels) to the longest one's steps, NaN behind the end."""
    steps = max((len(each) for each in series if each.ndim), default=0)
    rows = [each[:, np.newaxis] if each.ndim == 1 else each for each in series]
    return [
        np.pad(row, ((0, steps - len(row)), (0, 0)), constant_values=np.nan)
        if row.ndim == 2
        else row
        for row in rows
    ]


def _vector(sample: object, where: str) -> NDArray[np.float32]:
    try:
        return np.asarray(sample, dtype=np.float32)
    except (TypeError, ValueError, RuntimeError) as error:
        raise DataError(
            f"{where} is a {type(sample).__name__}; expected numbers: an array or a tensor"
        ) from error


_source = lru_cache(maxsize=KEPT)(_CodeSource)

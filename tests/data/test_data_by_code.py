"""Data that a user's own function returns: datasets of any library, arrays, and what is wrong."""

import json
import logging
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from memory_grid import run_quickly
from PIL import Image
from torch.utils.data import (
    DataLoader,
    Dataset,
    IterableDataset,
    Subset,
    TensorDataset,
    random_split,
)

from feddag_flwr.data.by_code import client as by_code
from feddag_flwr.data.by_code import images
from feddag_flwr.data.images.form import ImageForm
from feddag_flwr.data.samples import DataError
from feddag_flwr.data.scenarios import load_client_data
from feddag_flwr.data.tables import TableOptions, read_table
from feddag_flwr.modalities import SampleSpec
from feddag_flwr.modalities.series import lengths_of
from feddag_flwr.settings import Settings, SettingsError

NODE = {"partition-id": 1, "num-partitions": 3, "client-name": "ward-1"}
rng = np.random.default_rng(3)
PIXELS = rng.integers(0, 256, (8, 6, 5, 3), dtype=np.uint8)
LABELS = [0, 1] * 4


@pytest.fixture
def own(monkeypatch, tmp_path):
    """Let a module's functions be what is given here; nothing of another test is kept."""
    module = SimpleNamespace(__file__=None)
    monkeypatch.setitem(sys.modules, "own_loader", module)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    by_code._source.cache_clear()
    yield module
    by_code._source.cache_clear()


def load(own, loader, spec=None, node=NODE, **changes):
    own.load = loader
    config = {"dataset": "own_loader:load", "scenario": "own", "num_clients": 3} | changes
    settings = Settings.from_run_config({k.replace("_", "-"): v for k, v in config.items()})
    return load_client_data(settings, node, spec=spec)


class Dicts(Dataset):
    """Items as Hugging Face and MONAI have them."""

    def __init__(self, sample="image", label="label", make=Image.fromarray, count=8):
        self.keys, self.make, self.count = (sample, label), make, count

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        sample, label = self.keys
        return {sample: self.make(PIXELS[index]), label: LABELS[index], "path": "x"}


def as_tensor(pixels):
    return torch.from_numpy(pixels).permute(2, 0, 1)


def floats(pixels):
    return as_tensor(pixels).float() / 255


def pairs():
    return TensorDataset(torch.from_numpy(PIXELS).permute(0, 3, 1, 2), torch.tensor(LABELS))


def everything(data):
    """Pixels of all samples, in the order of the items."""
    held = np.concatenate([data.train.samples, data.test.samples])
    return {each.tobytes() for each in held}


@pytest.mark.parametrize(
    "part",
    [
        Dicts(),
        Dicts("img", "fine_label"),
        Dicts("image", "label", as_tensor),
        Dicts("img", "label", floats),  # as MONAI's transforms leave it
        pairs(),
        (PIXELS, np.array(LABELS)),
        (PIXELS / 255, LABELS),
        [(Image.fromarray(each), label) for each, label in zip(PIXELS, LABELS, strict=True)],
    ],
    ids=["hf", "other-keys", "tensors", "monai", "tensor-dataset", "arrays", "floats", "list"],
)
def test_every_way_of_giving_images_is_the_same_images(own, part):
    data = load(own, lambda context: part)
    assert everything(data) == {each.tobytes() for each in PIXELS.transpose(0, 3, 1, 2)}
    assert data.train.samples.dtype == np.uint8
    assert (data.name, data.class_names) == ("ward-1", ("0", "1"))
    assert (len(data.train), len(data.test)) == (6, 2)
    assert data.spec == SampleSpec((3, 6, 5))


def test_the_loader_learns_whose_data_it_is(own):
    told = []
    load(own, lambda context: told.append(context) or pairs(), data_dir="somewhere", seed=4)
    (context,) = told
    assert (context.client_name, context.partition, context.num_clients) == ("ward-1", 1, 3)
    assert (context.data_dir, context.data_path, context.seed) == ("somewhere", "", 4)
    assert context.node_config == NODE


def test_each_client_of_a_simulation_gets_its_own_call_and_each_only_one(own):
    told = []

    def loader(context):
        told.append(context.client_name)
        return Subset(Dicts(), range(context.partition, 8))

    sizes = [
        len(load(own, loader, node={"partition-id": each, "num-partitions": 3}).train)
        for each in (0, 1, 2, 1)
    ]
    assert told == ["client-0", "client-1", "client-2"]
    assert sizes[0] > sizes[2]


def test_a_node_of_a_deployment_needs_a_name_alone(own):
    def loader(context):
        assert (context.partition, context.data_path) == (None, "/data/7")
        return pairs()

    data = load(own, loader, node={"client-name": "site-7", "data-path": "/data/7"})
    assert data.name == "site-7"


def test_parts_are_used_as_they_are_called(own):
    parts = {"train": Dicts(), "validation": Dicts(count=2), "test": Dicts(count=3), "extra": []}
    data = load(own, lambda context: parts, validation_share=0.25)
    assert [len(part) for part in (data.train, data.validation, data.test)] == [8, 2, 3]
    assert load(own, lambda context: parts).validation is None  # nobody asks for one
    by_code._source.cache_clear()
    data = load(own, lambda context: (Dicts(), None, Dicts(count=4)), validation_share=0.25)
    assert [len(part) for part in (data.train, data.validation, data.test)] == [6, 2, 4]


class Named(Dicts):
    classes = ("cat", "dog", "eel")


class Features(Dicts):
    def __init__(self):
        super().__init__()
        self.features = {"label": SimpleNamespace(names=["cat", "dog", "eel"]), "image": None}


@pytest.mark.parametrize("part", [Named(), Features(), Subset(Subset(Named(), range(8)), range(8))])
def test_the_dataset_s_names_of_classes_are_taken(own, part):
    assert load(own, lambda context: part).class_names == ("cat", "dog", "eel")


def test_labels_may_be_texts(own):
    data = load(own, lambda context: (PIXELS, ["ill", "well"] * 4))
    assert data.class_names == ("ill", "well")


def test_images_of_many_sizes_become_the_federation_s(own):
    pictures = [Image.fromarray(PIXELS[i]).resize((5 + i % 2, 6)) for i in range(8)]
    pictures[7] = pictures[7].convert("L")
    part = list(zip(pictures, LABELS, strict=True))
    data = load(own, lambda context: part, SampleSpec((1, 4, 4)))
    assert data.train.samples.shape == (6, 1, 4, 4)
    data = load(own, lambda context: part, image_size=3)
    assert data.spec == SampleSpec((3, 3, 3))


def test_many_images_are_prepared_once_into_a_file(own, monkeypatch):
    monkeypatch.setattr(images, "IN_MEMORY", 0)
    reads = []

    class Counted(Dicts):
        def __getitem__(self, index):
            reads.append(index)
            return super().__getitem__(index)

    data = load(own, lambda context: {"train": Counted(), "test": Dicts(count=2)})
    assert isinstance(data.train.samples, np.memmap)
    assert data.train.samples.shape == (8, 3, 6, 5)
    assert np.array_equal(data.train.labels, LABELS)
    first = len(reads)
    by_code._source.cache_clear()  # as another process
    again = load(own, lambda context: {"train": Counted(), "test": Dicts(count=2)})
    assert np.array_equal(again.train.samples, data.train.samples)
    assert np.array_equal(again.train.labels, data.train.labels)
    assert len(reads) - first == 9  # looked at, the first twice; none prepared again
    by_code._source.cache_clear()
    turned = load(own, lambda context: {"train": Dicts(make=lambda p: Image.fromarray(255 - p))})
    assert not np.array_equal(turned.train.samples[0], data.train.samples[0])


def test_what_is_large_is_outlined_before_it_is_read(own, monkeypatch):
    monkeypatch.setattr(by_code.ImageItems, "is_large", lambda self, form: True)
    own.load = lambda context: {"train": Named()}
    settings = Settings.from_run_config(
        {"dataset": "own_loader:load", "scenario": "own", "num-clients": 3}
    )
    outline = by_code.outline_by_code(settings, NODE)
    assert outline == ("ward-1", ("cat", "dog", "eel"), SampleSpec((3, 6, 5)), 6, 2, 0)


def test_vectors_are_embeddings(own):
    rows = rng.normal(size=(8, 4)).astype(np.float32)
    part = TensorDataset(torch.from_numpy(rows), torch.tensor(LABELS))
    data = load(own, lambda context: part, modality="embedding")
    assert {each.tobytes() for each in [*data.train.samples, *data.test.samples]} == {
        each.tobytes() for each in rows
    }


class Frame:
    """Columns by name, as data frames have them."""

    def __init__(self, columns):
        self.columns = list(columns)
        self._cells = columns

    def __getitem__(self, name):
        return self._cells[name]

    def __len__(self):
        return len(self._cells[self.columns[0]])

    @property
    def shape(self):
        return len(self), len(self.columns)


COLUMNS = {
    "age": [40.0, None, 62, 55, 41, 70, np.float32(33), float("nan")],
    "sex": ["m", "f", None, "f", "m", "f", "m", "m"],
    "ill": [1, 0, 1, 0, 1, 0, 1, 0],
}
ROWS = [
    {name: cell for name, cell in zip(COLUMNS, row, strict=True) if cell is not None}
    for row in zip(*COLUMNS.values(), strict=True)
]
APART = [({"age": row.get("age"), "sex": row.get("sex")}, row["ill"]) for row in ROWS]


@pytest.mark.parametrize(
    "part",
    [
        Frame(COLUMNS),
        COLUMNS,
        ROWS,
        APART,
        (Frame({name: COLUMNS[name] for name in ("age", "sex")}), np.array(COLUMNS["ill"])),
    ],
    ids=["frame", "mapping", "rows", "rows-and-labels", "frame-and-labels"],
)
def test_every_way_of_giving_a_table_is_the_table_of_a_file(own, part, tmp_path):
    lines = [
        ",".join("" if c is None else str(c) for c in row)
        for row in zip(*COLUMNS.values(), strict=True)
    ]
    file = tmp_path / "ward-1.csv"
    file.write_text("\n".join([",".join(COLUMNS), *lines]))
    options = TableOptions(label="ill")
    expected = read_table(file, options).train
    data = load(
        own, lambda context: {"train": part, "test": part}, modality="tabular", label_column="ill"
    )
    assert data.class_names == ("0", "1")
    for held in (data.train, data.test):
        assert held.samples.dtype.names == ("age", "sex")
        np.testing.assert_array_equal(held.labels, expected.labels)
        np.testing.assert_array_equal(held.samples["age"], expected.samples["age"])
        np.testing.assert_array_equal(held.samples["sex"], expected.samples["sex"])


def test_an_array_is_a_table_of_numbered_columns(own):
    rows = rng.normal(size=(8, 3))
    data = load(own, lambda context: (rows, LABELS), modality="tabular")
    assert data.train.samples.dtype.names == ("0", "1", "2")
    assert sorted(data.train.samples["1"].tolist() + data.test.samples["1"].tolist()) == sorted(
        rows[:, 1].tolist()
    )


@pytest.mark.parametrize(
    ("part", "words"),
    [
        ({"age": [1.0, 2.0], "ill": [0]}, "train: column 'age' has 2 cells, others have 1"),
        ({"age": [1.0, 2.0]}, "train: no column 'ill' .setting label-column.; it has 'age'"),
        ({"age": ["x", 2.0], "ill": [0, 1]}, "train: row 0, column 'age': 'x' is no number"),
        ({"age": [1.0, 2.0], "ill": [0, None]}, "row 1 of .* has no label"),
        ([5, 6], "train: row 0 is a int; expected columns by name"),
        (np.zeros((4, 2)), "train: row 0 is a ndarray; expected columns by name"),
        ((np.zeros((4, 2, 2)), [0, 1, 0, 1]), r"features are of shape \(4, 2, 2\); expected"),
    ],
)
def test_what_is_no_table_is_told(own, part, words):
    with pytest.raises(DataError, match=words) as caught:
        load(own, lambda context: {"train": part}, modality="tabular", label_column="ill")
    assert str(caught.value).startswith("client 'ward-1': dataset = 'own_loader:load'")


def test_series_are_of_their_own_lengths(own):
    lengths = [3, 5, 2, 4, 6, 3, 5, 4]
    series = [rng.normal(size=(steps, 2)) for steps in lengths]
    items = list(zip(series, LABELS, strict=True))
    data = load(own, lambda context: {"train": items, "test": items}, modality="series")
    assert data.train.samples.shape == (8, 6, 2)
    assert lengths_of(data.train.samples).tolist() == lengths
    np.testing.assert_allclose(data.train.samples[2, :2], series[2], rtol=1e-6)
    one = load(own, lambda context: ([s[:, 0] for s in series], LABELS), modality="series", seed=2)
    assert one.train.samples.shape[1:] == (6, 1)
    uneven = [(each[:, : 1 + (number == 5)], 0) for number, each in enumerate(series)]
    with pytest.raises(DataError, match=r"train item 5 has shape .*; all must be alike"):
        load(own, lambda context: uneven, modality="series", seed=3)


def table_of_three(context):
    drawn = np.random.default_rng(context.partition)
    ill = np.arange(40) % 2
    return {
        "train": {
            "age": drawn.normal(size=40) + 2 * ill,
            "sex": drawn.choice(["m", "f"], 40),
            "label": np.where(ill, "ill", "well"),
        }
    }


def series_of_three(context):
    drawn = np.random.default_rng(context.partition)
    return [(drawn.normal(size=(drawn.integers(4, 9), 2)) + 2 * (i % 2), i % 2) for i in range(40)]


@pytest.mark.integration
@pytest.mark.parametrize(
    ("modality", "loader", "names"),
    [("tabular", table_of_three, ["ill", "well"]), ("series", series_of_three, ["0", "1"])],
)
def test_a_whole_run_on_what_a_loader_returns(own, tmp_path, modality, loader, names):
    own.load = loader
    strategy, _ = run_quickly(
        tmp_path, dataset="own_loader:load", modality=modality, scenario="own", num_clients=3,
        participation=1.0, warmup_rounds=1, client_groups=1,
    )  # fmt: skip
    assert sorted(strategy.state.assignments) == ["client-0", "client-1", "client-2"]
    assert list(strategy.state.class_names) == names
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert 0 <= summary["overall"]["balanced-accuracy"] <= 1


def test_one_bad_item_is_passed_over_and_named(own, caplog):
    def make(pixels):
        if np.array_equal(pixels, PIXELS[3]):
            raise OSError("truncated")
        return Image.fromarray(pixels)

    with caplog.at_level(logging.WARNING, logger="flwr"):
        data = load(own, lambda context: Dicts(make=make))
    assert len(data.train) + len(data.test) == 7
    assert "train item 3 raised OSError: truncated; mend it or leave it out" in caplog.text
    with pytest.raises(DataError, match="train item 3 raised OSError: truncated"):
        load(own, lambda context: Dicts(make=make), on_bad_file="refuse")


def test_a_label_that_is_none_is_not_passed_over_with_its_class(own):
    labels = [-1, 1] * 20  # as many write two classes
    pixels = np.repeat(PIXELS, 5, axis=0)
    with pytest.raises(DataError, match="item 0 has label -1; classes are counted from 0"):
        load(own, lambda context: (pixels, labels))
    labels[:] = [1] * 40
    labels[1] = None  # not among the 32 that are looked at first
    with pytest.raises(DataError, match="item 1 has no label"):
        load(own, lambda context: (pixels, labels))


def test_a_loader_that_ends_the_process_is_refused_alone(own):
    with pytest.raises(DataError, match="raised SystemExit: 3"):
        load(own, lambda context: sys.exit(3))
    with pytest.raises(DataError, match="item 0 raised SystemExit: 4"):
        load(own, lambda context: Dicts(make=lambda pixels: sys.exit(4)))


def test_images_of_more_than_8_bits_have_the_range_of_their_largest_value(own):
    deep = np.linspace(0, 4095, 8 * 30).round().astype(np.uint16).reshape(8, 6, 5)
    images = [(Image.fromarray(each), label) for each, label in zip(deep, LABELS, strict=True)]
    data = load(own, lambda context: images)
    assert data.spec == ImageForm(1, 6, 5, 12).spec
    expected = {np.rint(each * (255 / 4095)).astype(np.uint8).tobytes() for each in deep}
    assert everything(data) == expected


def raising(context):
    raise FileNotFoundError("no disk")


class Endless(IterableDataset):
    def __iter__(self):
        return iter(())


class Random(Dicts):
    def __getitem__(self, index):
        return {"image": rng.integers(0, 256, (6, 5, 3), dtype=np.uint8), "label": 0}


class Few(Dicts):
    classes = ("cat",)


def labelled(label):
    return [(PIXELS[0], label)] * 4


@pytest.mark.parametrize(
    ("loader", "words"),
    [
        (raising, "raised FileNotFoundError: no disk; `feddag-flwr check-data own_loader:load`"),
        (
            lambda context: None,
            "returned nothing to train on; return a dataset to train on, or a mapping",
        ),
        (
            lambda context: random_split(pairs(), [6, 2]),
            "train is a list of 2 datasets; name them: {'train': .., 'test': ..}",
        ),
        (lambda context: Endless(), "train is a Endless without a length or items by number"),
        (lambda context: DataLoader(pairs()), "without a length or .* return its .dataset"),
        (lambda context: (pairs(), pairs()), "returned a tuple of 2; return a dataset to train on"),
        (lambda context: {"a": 1, "b": 2}, "a mapping of 'a', 'b', without 'train'; return a"),
        (lambda context: [], "train is empty; leave it out or fill it"),
        (lambda context: (PIXELS, [0, 1]), "train has 8 samples and 2 labels"),
        (lambda context: [5, 6], "train item 0 is a int; expected .sample, label., or a mapping"),
        (lambda context: Dicts("photo"), "has 'photo', 'label', 'path' and none of 'image', 'img'"),
        (lambda context: Dicts("image", "kind"), "and none of 'label', .*; rename one"),
        (lambda context: labelled(None), "item 0 has no label; expected the class of one sample"),
        (lambda context: labelled([0, 1]), r"item 0 has a label of shape \(2,\); expected"),
        (lambda context: labelled(-1), "item 0 has label -1; classes are counted from 0, or texts"),
        (lambda context: labelled(0.5), "item 0 has label 0.5; classes are counted from 0, or"),
        (lambda context: [("x.png", 0)] * 4, "train item 0 has shape"),
        (lambda context: [(np.zeros((9, 9, 9)), 0)] * 4, r"has shape \(9, 9, 9\); expected an im"),
        (lambda context: [(PIXELS[0] / 20.0, 0)] * 4, "float64 and runs from .* leave scaling to"),
        (lambda context: [(PIXELS[0].astype(int), 0)] * 4, "is int64 and holds integers; expected"),
        (lambda context: Random(), "item 0 is another image when it is read again; return the"),
        (
            lambda context: type("Few", (Dicts,), {"classes": ["cat"]})(),
            "label '1' of a train item",
        ),
    ],
)
def test_what_is_wrong_is_one_sentence_that_names_the_reference(own, loader, words):
    with pytest.raises(DataError, match=words) as caught:
        load(own, loader)
    assert str(caught.value).startswith("client 'ward-1': dataset = 'own_loader:load'")
    assert "\n" not in str(caught.value)


def test_what_cannot_be_imported_or_called_is_told(own):
    with pytest.raises(DataError, match=r"ModuleNotFoundError: No module .* must be in PYTHONPATH"):
        load(own, None, dataset="nowhere_at_all:load")
    with pytest.raises(DataError, match=r"AttributeError: .* must be in PYTHONPATH"):
        load(own, None, dataset="own_loader:other")
    with pytest.raises(DataError, match="is a int; must be a function"):
        load(own, 5)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"scenario": "lda"}, "each client's own data, needs scenario = 'own', which is 'lda'"),
        ({"image_size": 8, "modality": "tabular"}, "image-size = 8: only images have a size"),
    ],
)
def test_settings_that_cannot_be_with_it(own, changes, words):
    with pytest.raises(SettingsError, match=words):
        load(own, lambda context: pairs(), **changes)

"""Archives of rows, series and embeddings."""

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from bad_inputs.case import Case, Refused, Right

SHAPES = {"features": (24, 5), "series": (24, 20, 2), "embeddings": (24, 6)}
MODALITIES = {"features": "tabular", "series": "series", "embeddings": "embedding"}


def archive(
    array: str, arrays: Mapping[str, object] = {}, change: Callable[[np.ndarray], object] = id
) -> Callable[[Path], Path]:
    """Write an archive, its samples changed; arrays come besides, or in the place of its own."""

    def make(root: Path) -> Path:
        samples = np.random.default_rng(1).normal(size=SHAPES[array])
        changed = change(samples)
        kept = changed if isinstance(changed, np.ndarray) else samples
        given = {array: kept, "labels": np.arange(24) % 3, **arrays}
        np.savez(root / "a.npz", **given)
        return root / "a.npz"

    return make


def put(place: object, value: float) -> Callable[[np.ndarray], None]:
    """Change numbers."""

    def change(samples: np.ndarray) -> None:
        samples[place] = value

    return change


def lengths(first: int) -> dict[str, np.ndarray]:
    """Return the steps of each series, those of the fourth being given."""
    return {"lengths": np.array([20] * 3 + [first] + [20] * 20)}


def cases(array: str) -> tuple[Case, ...]:
    """Return what all kinds of arrays have in common."""
    test = f"test_{array}"
    two = np.random.default_rng(2).normal(size=(2, *SHAPES[array][1:]))
    other = np.random.default_rng(2).normal(size=(2, *SHAPES[array][1:-1], 9))
    same = np.random.default_rng(1).normal(size=SHAPES[array])[5:6]
    refused = "column" if array == "features" else "expected the same"
    return (
        Case("good", archive(array), Right(("has no 'class_names'", "with 1 to look at"))),
        Case("labels are text", archive(array, {"labels": np.array(["b", "a"] * 12)}), Right()),
        Case("labels are floats", archive(array, {"labels": np.arange(24) % 2 / 1}), Right()),
        Case("labels begin at -3", archive(array, {"labels": np.arange(24) % 2 - 3}), Right()),
        Case("labels are truth", archive(array, {"labels": np.arange(24) % 2 > 0}), Right()),
        Case(
            "label is NaN",
            archive(array, {"labels": np.where(np.arange(24) == 7, np.nan, 1)}),
            Refused(("a.npz", "labels[7] has no label", "leave it out")),
        ),
        Case(
            "one-hot labels",
            archive(array, {"labels": np.eye(3)[np.arange(24) % 3]}),
            Refused(("a.npz", "'labels' is float64 of shape (24, 3)", "shape (n,)")),
        ),
        Case(
            "fewer labels than samples",
            archive(array, {"labels": np.arange(20) % 2}),
            Refused(("a.npz", f"24 '{array}' but 20 'labels'")),
        ),
        Case(
            "label beyond the class names",
            archive(array, {"class_names": np.array(["a", "b"])}),
            Refused(("a.npz", "label", "of labels[2]", "class_names has")),
        ),
        Case(
            "class only in test",
            archive(array, {test: two, "test_labels": np.array([0, 7])}),
            Right(("cannot be learned here: 7",), 26),
        ),
        Case(
            "test part of another width",
            archive(array, {test: other, "test_labels": np.array([0, 1])}),
            Refused(("a.npz", refused)),
        ),
        Case(
            "empty test part",
            archive(array, {test: two[:0], "test_labels": np.arange(0)}),
            Refused(("a.npz", f"'{test}' has length 0", "leave it out")),
        ),
        Case(
            "duplicate across train and test",
            archive(array, {test: np.concatenate([two, same]), "test_labels": np.array([0, 1, 2])}),
            Right(("of 3 also in the training part", f"{array}[5] = {test}[2]"), 27),
        ),
        Case(
            "objects",
            archive(array, {array: np.array([[1.0], [2.0, 3.0]] * 12, dtype=object)}),
            Refused(("a.npz", "without pickles")),
        ),
        Case(
            "complex numbers",
            archive(array, change=lambda samples: samples * 1j),
            Refused(("a.npz", f"'{array}' is complex128", "expected numbers")),
        ),
        Case("half precision", archive(array, change=lambda s: s.astype(np.float16)), Right()),
        Case("whole numbers", archive(array, change=lambda s: (s * 100).astype(int)), Right()),
        Case(
            "infinite number",
            archive(array, change=put((4, *[1] * (len(SHAPES[array]) - 1)), np.inf)),
            Refused(("a.npz", "infinite", "4", "leave")),
        ),
        Case(
            "number too large",
            archive(array, change=put((4, *[1] * (len(SHAPES[array]) - 1)), 1e200)),
            Refused(("a.npz", "too large", "4", "leave")),
        ),
        Case(
            "no samples",
            archive(array, {"labels": np.arange(0)}, lambda samples: samples[:0]),
            Refused(("a.npz", f"'{array}' has length 0")),
        ),
        Case(
            "no numbers in a sample",
            archive(array, change=lambda samples: samples[..., :0]),
            Refused(("a.npz", f"'{array}' is float64 of shape", "expected numbers")),
        ),
    )  # fmt: skip


FEATURES = (
    Case("NaN is a hole", archive("features", change=put((4, 1), np.nan)), Right()),
    Case(
        "columns with names",
        archive("features", {"column_names": np.array(list("abcde"))}),
        Right(("column a",)),
    ),
    Case(
        "names for other columns",
        archive("features", {"column_names": np.array(list("abc"))}),
        Refused(("a.npz: 'column_names'", "expected 5 texts")),
    ),
    Case(
        "column named twice",
        archive("features", {"column_names": np.array(list("abcda"))}),
        Refused(("a.npz: column 'a' is there twice", "rename one")),
    ),
)

SERIES = (
    Case("one channel", archive("series", change=lambda s: s[:, :, 0]), Right(("1 channel",))),
    Case("NaN at the end", archive("series", change=put((4, slice(12, None)), np.nan)), Right()),
    Case("own lengths", archive("series", lengths(7)), Right()),
    Case(
        "NaN before the end",
        archive("series", change=put((4, 6), np.nan)),
        Refused(("a.npz", "NaN in series 4, step 6", "fill the hole")),
    ),
    Case(
        "NaN in one channel",
        archive("series", change=put((4, 6, 1), np.nan)),
        Refused(("a.npz", "NaN in series 4, step 6", "fill the hole")),
    ),
    Case(
        "length 0",
        archive("series", lengths(0)),
        Refused(("a.npz", "lengths[3] = 0", "leave the series out")),
    ),
    Case(
        "all NaN",
        archive("series", change=put(4, np.nan)),
        Refused(("a.npz", "series 4 has no step", "leave it out")),
    ),
    Case(
        "length beyond the end",
        archive("series", lengths(21)),
        Refused(("a.npz", "lengths[3] = 21", "expected 1 to 20")),
    ),
    Case(
        "a length too few",
        archive("series", {"lengths": np.full(23, 20)}),
        Refused(("a.npz", "'lengths' is int64 of shape (23,)", "expected 24")),
    ),
    Case("no step", archive("series", change=lambda s: s[:, :0]), Refused(("a.npz", "(24, 0, 2)"))),
)  # fmt: skip

EMBEDDINGS = (
    Case(
        "NaN",
        archive("embeddings", change=put((4, 1), np.nan)),
        Refused(("a.npz", "1 of 24 have NaN", "number 4", "leave it out")),
    ),
    Case(
        "of three axes",
        archive("embeddings", change=lambda samples: samples[:, :, np.newaxis]),
        Refused(("a.npz", "(24, 6, 1)", "(n, d)")),
    ),
)

_OWN = {"features": FEATURES, "series": SERIES, "embeddings": EMBEDDINGS}
ARRAYS = tuple(
    case._replace(name=f"{array}: {case.name}", settings={"modality": MODALITIES[array]})
    for array, own in _OWN.items()
    for case in (*cases(array), *own)
)

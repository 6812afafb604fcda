"""Folders and archives of images."""

import struct
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
from PIL import Image

from bad_inputs.case import Case, Refused, Right

CLASSES = ("bag", "boot", "shirt")
ORIENTATION = 0x0112
NOTHING: Mapping[str, object] = {}
REFUSE = {"on-bad-file": "refuse"}


def picture(number, size=(20, 16), mode="L"):
    """Make what photographs are: most of it changes slowly. The width comes first."""
    pixels = np.random.default_rng(number).integers(0, 256, (5, 5, 3), dtype=np.uint8)
    return Image.fromarray(pixels).resize(size, Image.Resampling.BICUBIC).convert(mode)


def folder(
    root: Path,
    suffix: str = ".png",
    change: Callable[[Image.Image, int], Image.Image] = lambda made, _: made,
    names: tuple[str, ...] = CLASSES,
    place: str = "{part}/{name}/{index}",
    **options: object,
) -> Path:
    """Write 24 pictures: six of each class to train on and two to test."""
    for label, name in enumerate(names):
        for index in range(8):
            part = "test" if index % 4 == 3 else "train"
            path = root / (place.format(part=part, name=name, index=index) + suffix)
            path.parent.mkdir(parents=True, exist_ok=True)
            change(picture(100 * label + index), index).save(path, **options)
    return root


def with_file(name: str, content: bytes, **options: object) -> Callable[[Path], Path]:
    """Write the folder and one file more, or in the place of one of it."""

    def make(root: Path) -> Path:
        folder(root, **options)
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)
        return root

    return make


def cut(name: str, suffix: str = ".png") -> Callable[[Path], Path]:
    """Write the folder, of one file only the first half."""

    def make(root: Path) -> Path:
        path = folder(root, suffix) / (name + suffix)
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        return root

    return make


def moved(old: str, new: str) -> Callable[[Path], Path]:
    """Write the folder, and rename a part of it."""

    def make(root: Path) -> Path:
        (folder(root) / new).parent.mkdir(parents=True, exist_ok=True)
        (root / old).rename(root / new)
        return root

    return make


def turned(root: Path) -> Path:
    """Write JPEGs as a phone does: half of them lying down, with the orientation in EXIF."""
    folder(root, ".jpg")
    for path in root.rglob("[01246].jpg"):
        exif = Image.Exif()
        exif[ORIENTATION] = 6
        Image.open(path).transpose(Image.Transpose.ROTATE_90).save(path, exif=exif)
    return root


def bomb(root: Path) -> Path:
    """Write a picture of 30,000 x 30,000 pixels in 110 kB beside the others."""
    side = 30_000

    def chunk(kind: bytes, content: bytes) -> bytes:
        checked = kind + content
        return struct.pack(">I", len(content)) + checked + struct.pack(">I", zlib.crc32(checked))

    packed = zlib.compressobj(9)
    rows = b"".join(packed.compress(bytes(1 + side // 8)) for _ in range(side)) + packed.flush()
    head = struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)
    parts = (chunk(b"IHDR", head), chunk(b"IDAT", rows), chunk(b"IEND", b""))
    path = folder(root) / "train/bag/huge.png"
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(parts))
    return root


def copied(size: tuple[int, int], suffix: str) -> Callable[[Path], Path]:
    """Write the folder, and a training picture once more to the test part."""

    def make(root: Path) -> Path:
        with Image.open(folder(root) / "train/boot/2.png") as source:
            source.resize(size).save(root / f"test/boot/copy{suffix}")
        return root

    return make


def large(root: Path) -> Path:
    """Write pictures with enough detail that none looks like another's copy."""
    return folder(root, change=lambda made, index: made.resize((50 + 7 * index, 90 - 3 * index)))


def frames(root: Path) -> Path:
    """Write pictures of several frames."""
    others = [picture(7), picture(8)]
    return folder(root, ".gif", save_all=True, append_images=others)


def _transparent(made: Image.Image, index: int) -> Image.Image:
    made = made.convert("RGBA")
    made.putalpha(picture(index))
    return made


FOLDERS = (
    Case("sizes differ", large, Right(("images of 8 sizes", "all become 50 x 90"))),
    Case("sizes differ, one asked for", large, Right(("all become 32 x 32",)), {"image-size": 32}),
    Case("turned by EXIF", turned, Right(("1 x 16 x 20 (channels, height, width)",))),
    Case(
        "16-bit PNG",
        lambda root: folder(
            root, change=lambda p, _: Image.fromarray(np.asarray(p, np.uint16) * 16)
        ),
        Right(("24 of 24 files have more than 8 bits a channel: 0 to 4095 becomes 0 to 255",)),
    ),
    Case("TIFF", lambda root: folder(root, ".tiff"), Right()),
    Case(
        "BMP in a folder a patient",
        lambda root: folder(root, ".bmp", place="{part}/{name}/patient-{index}/scan"),
        Right(),
    ),
    Case("suffix in capitals", lambda root: folder(root, ".JPG"), Right()),
    Case("JPEG called PNG", lambda root: folder(root, format="JPEG"), Right()),
    Case(
        "names of other scripts",
        lambda root: folder(root, names=("Ta\u0308sche Nr. 2", "\u9774", "Hemd (alt) %")),
        Right(("T\u00e4sche Nr. 2", "\u9774")),
    ),
    Case(
        "class spelt two ways",
        lambda root: folder(root, names=("bag", "Bag", "boot")),
        Right(("class names 'Bag' and 'bag' differ",)),
    ),
    Case(
        "hidden file", with_file("train/bag/._0.png", b"\0" * 64), Right(("1 file passed over",))
    ),
    Case(
        "file of another kind",
        with_file("train/bag/0.dcm", b"\0" * 64),
        Right(("1 file passed over (1 .dcm): train/bag/0.dcm",)),
    ),
    Case(
        "palette",
        lambda root: folder(root, change=lambda p, _: p.convert("RGB").convert("P")),
        Right(("red, green, blue",)),
    ),
    Case("alpha", lambda root: folder(root, change=_transparent), Right(("red, green, blue",))),
    Case(
        "grey with alpha",
        lambda root: folder(root, change=lambda p, _: p.convert("LA")),
        Right(("grey",)),
    ),
    Case(
        "CMYK",
        lambda root: folder(root, ".jpg", change=lambda p, _: p.convert("CMYK")),
        Right(("red, green, blue",)),
    ),
    Case(
        "one bit a pixel",
        lambda root: folder(root, change=lambda p, _: p.convert("1")),
        Right(("grey",)),
    ),
    Case(
        "grey beside colour",
        lambda root: folder(root, change=lambda p, i: p.convert("RGB") if i % 2 else p),
        Right(("12 of 24 files are grey, the others not: all become RGB",)),
    ),
    Case("animated", frames, Right()),
    Case(
        "floats beyond [0, 1]",
        lambda root: folder(
            root, ".tiff", change=lambda p, _: Image.fromarray(np.asarray(p, np.float32))
        ),
        Refused(("no file can be read", "0.tiff: values from", "expected floating in [0, 1]")),
    ),
    Case(
        "cut off",
        cut("train/bag/1"),
        Right(("1 file cannot be read", "train/bag/1.png"), 23),
    ),
    Case(
        "cut off JPEG",
        cut("train/bag/1", ".jpg"),
        Right(("1 file cannot be read", "train/bag/1.jpg"), 23),
    ),
    Case(
        "cut off, not to be skipped",
        cut("train/bag/1"),
        Refused(("train/bag/1.png",)),
        REFUSE,
    ),
    Case(
        "empty file",
        with_file("train/bag/x.png", b""),
        Right(("1 file cannot be read", "train/bag/x.png")),
    ),
    Case(
        "empty file, not to be skipped",
        with_file("train/bag/x.png", b""),
        Refused(("train/bag/x.png",)),
        REFUSE,
    ),
    Case(
        "text called PNG",
        with_file("test/boot/x.png", b"no picture"),
        Right(("1 file cannot be read", "test/boot/x.png")),
    ),
    Case(
        "decompression bomb",
        bomb,
        Right(("1 file cannot be read", "train/bag/huge.png")),
    ),
    Case(
        "broken link",
        lambda root: (
            (folder(root) / "train/bag/x.png").symlink_to(root / "gone.png") or root
        ),
        Right(("1 file cannot be read", "train/bag/x.png")),
    ),
    Case(
        "empty class",
        lambda root: (folder(root) / "train/sandal").mkdir() or root,
        Right(("no train images of 'sandal'",)),
    ),
    Case(
        "class only in test",
        moved("train/shirt", "test/shirt/more"),
        Right(("no train images of 'shirt'", "cannot be learned here: shirt")),
    ),
    Case("no test part", lambda root: folder(root, place="{name}/{index}"), Right(("held out",))),
    Case(
        "empty test part",
        lambda root: (
            (folder(root, place="train/{name}/{index}") / "test/bag").mkdir(parents=True) or root
        ),
        Refused(("test: no test images", "fill the folder or remove it")),
    ),
    Case(
        "parts of another name",
        lambda root: folder(root, place="Training/{name}/{index}"),
        Refused(("Training: a folder of that name would be a class", "parts are called 'train'")),
    ),
    Case(
        "no class",
        lambda root: (root / "train").mkdir() or root,
        Refused(("train: no train images", "expected one sub-folder a class")),
    ),
    Case("no such folder", lambda root: root / "gone", Refused(("gone", "no such f"))),
    Case(
        "one picture a class",
        lambda root: (
            [p.unlink() for p in folder(root, place="{name}/{index}").rglob("[1-7].png")] and root
        ),
        Refused(("none can be held out of 3 sample(s)", "expected two or more")),
    ),
    Case(
        "one pixel",
        lambda root: folder(root, change=lambda p, _: p.resize((1, 1))),
        Refused(("images of 1 x 1 pixels (width x height) cannot be trained on", "at least")),
        at_node=Right(),  # it is made larger where the others' images are
    ),
    Case(
        "exact duplicate across train and test",
        copied((20, 16), ".png"),
        Right(("1 test image of 7 also in the training part", "train/boot/2.png"), 25),
    ),
    Case(
        "resized duplicate across train and test",
        copied((40, 32), ".png"),
        Right(("1 test image of 7 seem to be copies", "train/boot/2.png"), 25),
    ),
    Case(
        "re-encoded duplicate across train and test",
        copied((20, 16), ".jpg"),
        Right(("1 test image of 7 seem to be copies", "train/boot/2.png"), 25),
    ),
    Case(
        "same picture in two classes",
        lambda root: (
            (folder(root) / "train/bag/x.png").write_bytes(
                (root / "train/boot/2.png").read_bytes()
            )
            and root
        ),
        Right(("1 training image equal to one of another class", "train/boot/2.png"), 25),
    ),
)  # fmt: skip


def archive(
    change: Callable[[dict[str, object]], None] | Mapping[str, object] = NOTHING,
) -> Callable[[Path], Path]:
    """Write an archive of 24 images, with arrays changed, added, or left out where None."""

    def make(root: Path) -> Path:
        images = [np.asarray(picture(number)) for number in range(24)]
        arrays: dict[str, object] = {"images": np.stack(images), "labels": np.arange(24) % 3}
        if callable(change):
            change(arrays)
        else:
            arrays |= change
        np.savez(root / "a.npz", **{k: v for k, v in arrays.items() if v is not None})
        return root / "a.npz"

    return make


def changed(name: str, by: Callable[[np.ndarray], np.ndarray]) -> Callable[[Path], Path]:
    """Write an archive with one array changed."""

    def change(arrays: dict[str, object]) -> None:
        arrays[name] = by(arrays[name])

    return archive(change)


def put(name: str, place: object, value: object, kind: type) -> Callable[[Path], Path]:
    """Write an archive with one value of an array changed."""

    def by(array: np.ndarray) -> np.ndarray:
        array = array.astype(kind)
        array[place] = value
        return array

    return changed(name, by)


def damaged(root: Path) -> Path:
    """Write half of an archive."""
    path = archive()(root)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    return path


def single(root: Path) -> Path:
    """Write one array under the name of an archive."""
    with (root / "a.npz").open("wb") as file:
        np.save(file, np.zeros((4, 4)))
    return root / "a.npz"


PART = {"test_images": np.stack([np.asarray(picture(n)) for n in (50, 51)])}

ARCHIVES = (
    Case("labels are text", archive({"labels": np.array(["b", "a", "c"] * 8)}), Right(("a", "b"))),
    Case("labels are floats", changed("labels", lambda each: each / 1.0), Right()),
    Case("labels are a column", changed("labels", lambda each: each[:, np.newaxis]), Right()),
    Case("labels do not begin at 0", changed("labels", lambda each: each + 5), Right()),
    Case("labels with holes", changed("labels", lambda each: each * 3), Right()),
    Case(
        "label is a fraction",
        put("labels", 7, 0.5, float),
        Refused(("a.npz", "labels[7] = 0.5", "whole number")),
    ),
    Case(
        "label is NaN",
        put("labels", 7, np.nan, float),
        Refused(("a.npz", "labels[7] has no label", "leave it out")),
    ),
    Case(
        "negative label",
        put("labels", 7, -1, int),
        Refused(("a.npz", "labels[7] = -1", "expected a whole number, 0 to")),
    ),
    Case(
        "one-hot labels",
        changed("labels", lambda each: np.eye(3)[each]),
        Refused(("a.npz", "'labels' is float64 of shape (24, 3)", "shape (n,)")),
    ),
    Case(
        "label beyond the class names",
        archive({"class_names": np.array(["a", "b"])}),
        Refused(("a.npz", "label 2 is out of range for 2 'class_names'", "expected 0 to 1")),
    ),
    Case(
        "class named twice",
        archive({"class_names": np.array(["a", "b", "a"])}),
        Refused(("a.npz", "'class_names' has duplicates ('a')", "each name once")),
    ),
    Case(
        "fewer labels than images",
        changed("labels", lambda each: each[:20]),
        Refused(("a.npz", "24 'images' but 20 'labels'")),
    ),
    Case(
        "NaN pixel",
        changed("images", lambda each: np.where(np.arange(24)[:, None, None] == 7, np.nan, 0.5)),
        Refused(("a.npz", "1 of 24 have NaN or infinite pixels", "number 7", "leave it out")),
    ),
    Case(
        "floats from 0 to 255",
        changed("images", lambda each: each.astype(np.float32)),
        Refused(("a.npz", "'images' runs from", "expected floating in [0, 1]")),
    ),
    Case("integers from 0 to 255", changed("images", lambda each: each.astype(np.int64)), Right()),
    Case(
        "integers beyond 255",
        changed("images", lambda each: each.astype(np.int64) * 16),
        Refused(("a.npz", "'images' is int64", "expected uint8")),
    ),
    Case(
        "channels first",
        changed("images", lambda each: np.stack([each] * 3, axis=1)),
        Refused(("a.npz", "(24, 3, 16, 20)", "(n, height, width, channels) with 1 to 4")),
    ),
    Case(
        "no labels array in test part",
        archive(PART),
        Refused(("a.npz", "no array 'test_labels'")),
    ),
    Case(
        "test part of another size",
        archive({"test_images": np.zeros((2, 9, 9), np.uint8), "test_labels": np.arange(2)}),
        Refused(("a.npz", "'test_images' are 9 x 9", "'images' are 16 x 20", "the same shape")),
    ),
    Case(
        "class only in test part",
        archive(
            {**PART, "test_labels": np.array([0, 3]), "class_names": np.array(list("abcd"))}
        ),
        Right(("cannot be learned here: d",), 26),
    ),
    Case(
        "objects",
        changed("images", lambda each: each.astype(object)),
        Refused(("a.npz", "without pickles")),
    ),
    Case("half an archive", damaged, Refused(("a.npz", "not a readable .npz archive"))),
    Case("a single array", single, Refused(("a.npz", "it is a single array"))),
    Case(
        "no images",
        archive({"images": np.zeros((0, 16, 20), np.uint8), "labels": np.arange(0)}),
        Refused(("a.npz", "'images' has length 0")),
    ),
    Case(
        "arrays of another modality",
        archive({"images": None, "sounds": np.zeros((24, 9))}),
        Refused(("a.npz", "no array 'images'", "['labels', 'sounds']")),
    ),
)  # fmt: skip

IMAGES = tuple(
    case._replace(name=f"{kind}: {case.name}")
    for kind, cases in (("folder", FOLDERS), ("images", ARCHIVES))
    for case in cases
)

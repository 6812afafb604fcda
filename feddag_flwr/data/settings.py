"""Section ``data``: which samples there are, and which client holds which of them."""

from __future__ import annotations

import math
from typing import Literal

from pydantic import field_validator, model_validator

from feddag_flwr.class_names import class_name
from feddag_flwr.registries import MODALITIES
from feddag_flwr.registry import RegistryError
from feddag_flwr.sections import Section, advanced, setting
from feddag_flwr.sections.section import facts_of

# Kinds of corruption, by the names that the setting ``corruptions`` takes.
CORRUPTIONS = (
    "gaussian-noise",
    "shot-noise",
    "impulse-noise",
    "speckle-noise",
    "defocus-blur",
    "gaussian-blur",
    "glass-blur",
    "motion-blur",
    "zoom-blur",
    "snow",
    "frost",
    "fog",
    "brightness",
    "contrast",
    "elastic-transform",
    "pixelate",
    "jpeg-compression",
)
# Values of ``dataset``; the user's own are ``package.module:attribute``.
DATASETS = (
    "digits", "fashion-mnist", "cifar10", "cifar100", "svhn", "npz", "image-folder", "table",
)  # fmt: skip
# Where settings of tables have an effect; modalities that read them.
_TABLES = ({"dataset": ("table",)},)
_READ_AS_TABLE = (*_TABLES, {"modality": ("tabular",)})
_FILES = ({"dataset": ("table", "npz")}, {"modality": ("tabular",)})
_OF_TABLES = ("tabular", "series")
# Classes of the datasets that always have the same; where settings alone can tell a fault.
_DATASET_CLASSES = {"digits": 10, "fashion-mnist": 10, "cifar10": 10, "cifar100": 100, "svhn": 10}


class DataSettings(Section):
    """Which samples there are, and which client holds which of them."""

    dataset: str = setting(
        "digits",
        "Data set, or package.module:load, which returns each client's own",
        choices=DATASETS,
        shapes_data=True,
    )
    modality: str = setting(
        "image",
        "Kind of the samples: image, tabular, series (both also as table), embedding, or "
        "package.module:Class (its samples come as npz)",
        shapes_data=True,
    )
    image_size: int = advanced(
        0,
        "Height and width of all images: shorter side first, then a centre crop; 0: the "
        "federation's most common size",
        ge=0,
        le=4096,
        unit="pixels",
        shapes_data=True,
    )
    on_bad_file: Literal["skip", "refuse"] = advanced(
        "skip", "Image files that cannot be read: passed over, or the client is left out"
    )
    label_column: str = advanced(
        "label",
        "Column of a table that holds the label",
        min_length=1,
        shapes_data=True,
        effect=_READ_AS_TABLE,
    )
    client_column: str = advanced(
        "",
        "Column of a table that says whose row it is; empty: a table is one client's",
        shapes_data=True,
        effect=_TABLES,
    )
    categorical_columns: str = advanced(
        "",
        "Columns that hold categories although they look like numbers, separated by commas; "
        "columns of texts are found",
        shapes_data=True,
        effect=_FILES,
    )
    drop_columns: str = advanced(
        "",
        "Columns that are no features, such as numbers of persons, separated by commas",
        shapes_data=True,
        effect=_FILES,
    )
    class_map: str = advanced(
        "",
        "Classes that labels stand for: label=class, separated by commas; empty: labels are names",
        shapes_data=True,
        effect=_FILES,
    )
    data_dir: str = setting("", "Folder or file of the data set; unused by digits", place="data")
    download: bool = setting(False, "Let torchvision download a missing data set", place="data")
    train_share: float = advanced(
        1.0,
        "Share of the data set's training images that is used, of each class",
        gt=0,
        le=1,
        shapes_data=True,
        alters_own=True,
    )
    test_share: float = advanced(
        1.0,
        "Share of the data set's test images that is used, of each class",
        gt=0,
        le=1,
        shapes_data=True,
        alters_own=True,
    )
    test_fraction: float = setting(
        0.25,
        "Share held out for testing where a data set has no test part",
        gt=0,
        lt=1,
        shapes_data=True,
    )
    validation_share: float = advanced(
        0.0,
        "Share of each client's training data, of each class, that is neither trained nor profiled "
        "on, but held back to compare models on",
        ge=0,
        le=0.5,
        shapes_data=True,
    )
    scenario: Literal["label-skew", "lda", "class-pairs", "domains", "own"] = setting(
        "label-skew",
        "How a data set is split over clients: I (label-skew), III (lda), B.10 (class-pairs), "
        "IV (domains: folders domain/class), or their own",
        shapes_data=True,
    )
    label_skew: float = setting(
        30.0,
        "Share of all classes that a group of clients holds",
        symbol="rho",
        gt=0,
        le=100,
        unit="%",
        shapes_data=True,
    )
    client_groups: int = setting(
        5,
        "Groups of clients with the same classes (class-pairs in the paper: 11)",
        ge=1,
        le=10_000,
        shapes_data=True,
    )
    dirichlet_alpha: float = setting(
        1.0, "Concentration of the Dirichlet draw", symbol="alpha'", gt=0, le=1e6, shapes_data=True
    )
    min_class_samples: int = advanced(
        2,
        "Samples that each holder of a class has at least (label-skew, class-pairs); "
        "a client (lda, domains)",
        ge=1,
        le=1_000_000,
        unit="samples",
        shapes_data=True,
    )
    concepts: int = advanced(
        1,
        "II: concepts dealt to clients; labels y, (C - y) mod C, (y + 1) mod C",
        ge=1,
        le=3,
        shapes_data=True,
        alters_own=True,
    )
    rotations: int = advanced(
        1,
        "Turns dealt to clients: none, 0 and 180 degrees, or all four",
        choices=("1", "2", "4"),
        ge=1,
        le=4,
        shapes_data=True,
        alters_own=True,
    )
    corruptions: str = advanced(
        "",
        "IV: corruptions dealt to clients: all, or some of " + ", ".join(CORRUPTIONS),
        shapes_data=True,
        alters_own=True,
    )
    severity: int = advanced(
        3, "Severity of the corruptions; 0: drawn a client", ge=0, le=5, shapes_data=True
    )
    held_out_share: float = setting(
        0.0,
        "Share of the clients kept out of training and tested with the final models",
        ge=0,
        lt=1,
        shapes_data=True,
    )
    class_names: str = setting(
        "",
        "Classes of the federation, separated by commas; empty: those of the clients at the start",
    )
    standardise: bool = advanced(
        True,
        "Shift and scale samples by the federation's moments for training (images: mean and "
        "deviation a channel)",
    )
    newcomer_share: float = advanced(
        0.0,
        "Share of the clients that join in newcomer-round (simulation)",
        ge=0,
        lt=1,
        alters_own=True,
    )
    newcomer_round: int = advanced(
        5, "Round in which newcomer-share of the clients join", ge=1, le=100_000, unit="rounds"
    )
    newcomers_unlabelled: bool = advanced(
        False, "The clients that join in newcomer-round have no labels (simulation)"
    )
    drift_share: float = advanced(
        0.0,
        "Share of the clients that swap their data in drift-round (simulation)",
        ge=0,
        le=1,
        alters_own=True,
    )
    drift_round: int = advanced(
        5, "Round from which drift-share of the clients have other data", ge=1, le=100_000
    )

    drift_looks: Literal["none", "turned", "upside-down", "inverted"] = advanced(
        "none",
        "What becomes of the images of drift-share of the clients, instead of swapping their data: "
        "turned by 90 or by 180 degrees, or inverted (simulation)",
    )

    @field_validator("dataset")
    @classmethod
    def _known_dataset(cls, value: str) -> str:
        if value not in DATASETS and value.count(":") != 1:
            raise ValueError(f"must be {', '.join(DATASETS)} or package.module:load")
        return value

    @field_validator("class_names")
    @classmethod
    def _different_classes(cls, value: str) -> str:
        names = class_list(value)
        if value and (not all(names) or len(set(names)) < len(names)):
            raise ValueError("must be different names, separated by commas")
        return value

    @field_validator("class_map")
    @classmethod
    def _classes_of_labels(cls, value: str) -> str:
        class_map(value)
        return value

    @field_validator("modality")
    @classmethod
    def _known_modality(cls, value: str) -> str:
        try:
            return MODALITIES.check(value)
        except RegistryError as error:
            raise ValueError(f"must be {MODALITIES.allowed}") from error

    @field_validator("rotations")
    @classmethod
    def _half_or_quarter_turns(cls, value: int) -> int:
        if value not in {1, 2, 4}:
            raise ValueError("must be 1, 2 or 4")
        return value

    @field_validator("corruptions")
    @classmethod
    def _known_corruptions(cls, value: str) -> str:
        kinds = corruption_kinds(value)
        for kind in kinds:
            if kind not in CORRUPTIONS:
                raise ValueError(
                    f"no corruption {kind!r}; must be empty, all, or one or more of "
                    f"{', '.join(CORRUPTIONS)}, separated by commas"
                )
        if len(set(kinds)) < len(kinds):
            raise ValueError("must name each corruption once")
        return value

    @model_validator(mode="after")
    def _dataset_suits_scenario(self) -> DataSettings:
        common = self.dataset in DATASETS and self.dataset != "digits"
        if common and not self.data_dir and self.scenario != "own":
            raise ValueError(f"data-dir = '': dataset {self.dataset!r} needs a folder or file")
        by_code = self.dataset not in DATASETS
        if self.scenario == "own" and self.dataset not in {"npz", "image-folder", "table"}:
            if not by_code:
                raise ValueError(
                    f"dataset = {self.dataset!r}: scenario 'own' takes 'npz', 'image-folder', "
                    "'table' or package.module:load"
                )
        elif by_code:
            raise ValueError(
                f"dataset = {self.dataset!r}: is called for each client's own data, needs "
                f"scenario = 'own', which is {self.scenario!r}"
            )
        if self.client_column and self.dataset == "table" and self.scenario != "own":
            raise ValueError(
                f"client-column = {self.client_column!r}: needs scenario = 'own', which is "
                f"{self.scenario!r}"
            )
        if self.scenario == "domains" and self.dataset != "image-folder":
            raise ValueError(f"dataset = {self.dataset!r}: scenario 'domains' takes 'image-folder'")
        return self

    @model_validator(mode="after")
    def _modality_suits_dataset(self) -> DataSettings:
        of_tables = self.modality in _OF_TABLES
        if self.dataset == "table" and not of_tables:
            raise ValueError(
                f"modality = {self.modality!r}: dataset 'table' takes {' or '.join(_OF_TABLES)}"
            )
        if self.modality == "image":
            return self
        by_code = self.dataset not in DATASETS
        if self.dataset != "npz" and not (of_tables and self.dataset == "table") and not by_code:
            tables = ", 'table'" if of_tables else ""
            kinds = f"'npz'{tables} or package.module:load"
            raise ValueError(
                f"dataset = {self.dataset!r}: modality {self.modality!r} takes {kinds}"
            )
        for name, nothing in (("rotations", 1), ("corruptions", "")):
            if getattr(self, name) != nothing:
                raise ValueError(
                    f"{name} = {getattr(self, name)!r}: only images can be varied so, must be "
                    f"{nothing!r}"
                )
        if self.image_size:
            raise ValueError(f"image-size = {self.image_size}: only images have a size, must be 0")
        return self

    @model_validator(mode="after")
    def _enough_pairs_of_classes(self) -> DataSettings:
        classes = _DATASET_CLASSES.get(self.dataset)
        if self.scenario == "class-pairs" and classes is not None:
            pairs = math.comb(classes, 2)
            if self.client_groups > pairs:
                raise ValueError(
                    f"client-groups = {self.client_groups}: scenario 'class-pairs' has {pairs} "
                    f"pairs of the {classes} classes of dataset {self.dataset!r}, must be {pairs} "
                    "at most"
                )
        return self

    @model_validator(mode="after")
    def _own_data_stays_as_it_is(self) -> DataSettings:
        if self.scenario == "own":
            for name, field in type(self).model_fields.items():
                value = getattr(self, name)
                if facts_of(field).alters_own and value != field.default:
                    raise ValueError(
                        f"{field.alias} = {value!r}: scenario 'own' takes clients' data as it is, "
                        f"must be {field.default!r}"
                    )
        return self


def class_list(text: str) -> tuple[str, ...]:
    """Return the classes that a value of the setting ``class-names`` names, in its order.

    In Unicode's form NFC, as all names of classes are.
    """
    return tuple(class_name(name.strip()) for name in text.split(",")) if text else ()


def column_list(text: str) -> tuple[str, ...]:
    """Return the columns that a value of ``categorical-columns`` or ``drop-columns`` names."""
    return tuple(name.strip() for name in text.split(",") if name.strip())


def class_map(text: str) -> dict[str, str]:
    """Return which class each label stands for, from a value of the setting ``class-map``.

    >>> class_map("0=well, 1=ill, 2=ill")
    {'0': 'well', '1': 'ill', '2': 'ill'}
    """
    classes: dict[str, str] = {}
    for part in text.split(",") if text.strip() else ():
        label, equals, name = (piece.strip() for piece in part.partition("="))
        if not (equals and label and name) or label in classes:
            raise ValueError("must be label=class, separated by commas, each label once")
        classes[label] = name
    return classes


def corruption_kinds(text: str) -> tuple[str, ...]:
    """Return the kinds that a value of the setting ``corruptions`` names, in its order."""
    if text.strip() == "all":
        return CORRUPTIONS
    return tuple(kind.strip() for kind in text.split(",")) if text.strip() else ()

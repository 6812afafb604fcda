"""Every setting of a run: name, type, default, range, unit and paper symbol, in this one place.

The ``[tool.flwr.app.config]`` table of ``pyproject.toml`` mirrors the defaults, and the
table of `docs/settings.md` is made from the fields; tests hold the three together.
"""

from __future__ import annotations

import difflib
import json
import math
from collections.abc import Mapping
from typing import Any, Literal, cast, get_args, get_origin

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic.fields import FieldInfo

from feddag_flwr.algorithm_names import ALGORITHMS
from feddag_flwr.class_names import class_name
from feddag_flwr.metrics import DEFAULT_METRICS, metric_names
from feddag_flwr.modalities import MODALITIES
from feddag_flwr.registries import OBJECTIVES, OPTIMISERS, POSTPROCESSORS, TRAINERS
from feddag_flwr.registry import RegistryError

SettingValue = bool | int | float | str

MIN_THRESHOLD_STEP = 0.001

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
# Classes of the sources that always have the same; where settings alone can tell a fault.
_SOURCE_CLASSES = {"digits": 10, "fashion-mnist": 10, "cifar10": 10, "cifar100": 100, "svhn": 10}


_REGISTRIES = {registry.setting: registry for registry in (OBJECTIVES, OPTIMISERS, TRAINERS)}


class SettingsError(ValueError):
    """A setting is unknown, out of range or at odds with another one."""


def _setting(
    default: SettingValue,
    description: str,
    *,
    symbol: str = "",
    unit: str = "",
    choices: tuple[str, ...] = (),
    **bounds: Any,  # noqa: ANN401
) -> Any:  # noqa: ANN401 - pydantic fields are typed so
    return Field(
        default=default,
        description=description,
        json_schema_extra={"symbol": symbol, "unit": unit, "choices": list(choices)},
        **bounds,
    )


# What the paper says where this project does otherwise by default (docs/rulings.md).
PAPER: dict[str, SettingValue] = {
    "fusion": "entropy",
    "weight-scope": "all",
    "sources": "graph",
    "combine-sources": "sum",
    "classifier-training": "joint",
    "secondary-start": "random",
}


class Settings(BaseModel):
    """The validated settings of one run; immutable.

    Fields are written with hyphens (``local-epochs``) wherever a person writes them.
    """

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        strict=True,
        allow_inf_nan=False,
        alias_generator=lambda name: name.replace("_", "-"),
        validate_default=True,
    )

    # -- the run ------------------------------------------------------------------------------
    algorithm: str = _setting(
        "feddag", "Algorithm that trains the clients", choices=tuple(ALGORITHMS)
    )
    preset: Literal["own", "paper"] = _setting(
        "own",
        "What fusion, weight-scope, sources, combine-sources, classifier-training and "
        "secondary-start are where they stand at our defaults, even if given so: ours, or the "
        "paper's (entropy, all, graph, sum, joint, random)",
    )
    seed: int = _setting(1, "Seed of every random draw", ge=0, lt=2**31)
    num_clients: int = _setting(20, "Clients that take part", symbol="N", ge=2, le=100_000)
    num_rounds: int = _setting(
        100, "Training rounds after the profile", symbol="T", ge=0, le=100_000
    )
    min_clients: int = _setting(
        0,
        "Clients that are enough to begin with once a wait is over; 0: num-clients to meet, 2 "
        "profiles",
        ge=0,
        le=100_000,
    )
    identity: Literal["name", "node"] = _setting(
        "name",
        "Whom a name belongs to: whoever bears it while its node is gone (name), or for good to "
        "the node that came with it first (node: where nodes are authenticated)",
    )
    participation: float = _setting(
        0.2, "Share of all clients drawn for a round", gt=0, le=1, symbol="R"
    )
    evaluate_every: int = _setting(
        10, "Rounds between evaluations of all clients (the last round always)", ge=1, unit="rounds"
    )
    evaluate_participants: bool = _setting(
        True, "Participants evaluate the model they receive, in every round"
    )
    metrics: str = _setting(
        ", ".join(DEFAULT_METRICS),
        "What models are judged by, separated by commas, the headline first: "
        "balanced-accuracy, accuracy, loss, or package.module:Class",
    )
    fine_tune_epochs: int = _setting(
        0,
        "Epochs of local fine-tuning after the last round, judged apart; 0: none",
        ge=0,
        le=1000,
        unit="epochs",
    )
    wave_size: int = _setting(
        50, "Messages under way at once; bounds the server's memory", ge=1, le=10_000
    )
    join_timeout: float = _setting(
        120.0,
        "Wait for num-clients nodes to come, and for each to say who it is",
        gt=0,
        le=86_400,
        unit="seconds",
    )
    profile_timeout: float = _setting(
        1800.0, "Wait for a profile, from when it is asked for", gt=0, le=86_400, unit="seconds"
    )
    round_timeout: float = _setting(
        600.0,
        "Wait for a reply in a round, from when it is asked for",
        gt=0,
        le=86_400,
        unit="seconds",
    )
    max_client_samples: int = _setting(
        10_000_000, "Sample counts above this are rejected as untrue", ge=1, unit="samples"
    )
    max_update_ratio: float = _setting(
        100.0,
        "Updates longer than this many times the round's median are rejected",
        ge=1,
        le=1e12,
    )
    transport: Literal["float32", "float16", "bfloat16"] = _setting(
        "float32", "Number format in which weights travel; half of the bytes but in float32"
    )
    postprocessors: str = _setting(
        "transport",
        "What becomes of updates on their way to the server, in this order: transport (the number "
        "format, last), or package.module:Class",
    )
    aggregator: str = _setting(
        "mean", "How members' updates become one: mean, or package.module:Class", min_length=1
    )
    observers: str = _setting(
        "progress, round-log, checkpoints, closing-table",
        "What watches the run, in this order: these, or package.module:Class",
    )
    checkpoint_every: int = _setting(
        1, "Rounds between checkpoints (the last round always)", ge=1, unit="rounds"
    )
    keep_checkpoints: int = _setting(3, "Checkpoints that are kept", ge=1, le=1_000_000)
    resume: str = _setting("", "Run folder of a stopped run, which goes on there; empty: a new run")
    run_dir: str = _setting("runs", "Folder in which each run makes a folder of its own")
    run_name: str = _setting("", "Name of the run's folder; empty: date, time and algorithm")

    # -- data ---------------------------------------------------------------------------------
    source: Literal[
        "digits", "fashion-mnist", "cifar10", "cifar100", "svhn", "npz", "image-folder"
    ] = _setting("digits", "Data source")
    modality: str = _setting(
        "image",
        "Kind of the samples: image, or package.module:Class (its samples come as npz)",
    )
    data_dir: str = _setting("", "Folder or file of the data source; unused by digits")
    download: bool = _setting(False, "Let torchvision download a missing data source")
    train_share: float = _setting(
        1.0, "Share of the source's training images that is used, of each class", gt=0, le=1
    )
    test_share: float = _setting(
        1.0, "Share of the source's test images that is used, of each class", gt=0, le=1
    )
    scenario: Literal["label-skew", "lda", "class-pairs", "domains", "own"] = _setting(
        "label-skew",
        "How a source is split over clients: I (label-skew), III (lda), B.10 (class-pairs), "
        "IV (domains: folders domain/class), or their own",
    )
    label_skew: float = _setting(
        30.0,
        "Share of all classes that a group of clients holds",
        symbol="rho",
        gt=0,
        le=100,
        unit="%",
    )
    client_groups: int = _setting(
        5, "Groups of clients with the same classes (class-pairs in the paper: 11)", ge=1, le=10_000
    )
    dirichlet_alpha: float = _setting(
        1.0, "Concentration of the Dirichlet draw", symbol="alpha'", gt=0, le=1e6
    )
    min_class_samples: int = _setting(
        2,
        "Samples that each holder of a class has at least (label-skew, class-pairs); "
        "a client (lda, domains)",
        ge=1,
        le=1_000_000,
        unit="samples",
    )
    unseen_share: float = _setting(
        0.0,
        "Share of the clients kept out of training and tested with the final models",
        ge=0,
        lt=1,
    )
    test_fraction: float = _setting(
        0.25, "Share held out for testing where a source has no test part", gt=0, lt=1
    )
    concepts: int = _setting(
        1,
        "II: concepts dealt to clients; labels y, (C - y) mod C, (y + 1) mod C",
        ge=1,
        le=3,
    )
    rotations: int = _setting(
        1,
        "Turns dealt to clients: none, 0 and 180 degrees, or all four",
        choices=("1", "2", "4"),
        ge=1,
        le=4,
    )
    corruptions: str = _setting(
        "",
        "IV: corruptions dealt to clients: all, or some of " + ", ".join(CORRUPTIONS),
    )
    severity: int = _setting(3, "Severity of the corruptions; 0: drawn a client", ge=0, le=5)

    class_names: str = _setting(
        "",
        "Classes of the federation, separated by commas; empty: those of the clients at the start",
    )
    newcomer_share: float = _setting(
        0.0, "Share of the clients that join in newcomer-round (simulation)", ge=0, lt=1
    )
    newcomer_round: int = _setting(
        5, "Round in which newcomer-share of the clients join", ge=1, le=100_000, unit="rounds"
    )
    drift_share: float = _setting(
        0.0,
        "Share of the clients that swap their data in drift-round (simulation)",
        ge=0,
        le=1,
    )
    drift_round: int = _setting(
        5, "Round from which drift-share of the clients have other data", ge=1, le=100_000
    )

    # -- model and local training ----------------------------------------------------------------
    model: str = _setting(
        "auto", "Encoder: auto, small, lenet, cnn3, or package.module:factory", min_length=1
    )
    local_epochs: int = _setting(10, "Epochs of local training a round and phase", ge=1, le=1000)
    batch_size: int = _setting(64, "Mini-batch size", symbol="B", ge=1, le=100_000, unit="samples")
    objective: str = _setting(
        "cross-entropy",
        "What local training minimises: cross-entropy, or package.module:attribute",
        min_length=1,
    )
    optimiser: str = _setting(
        "sgd", "What takes the steps: sgd, or package.module:attribute", min_length=1
    )
    learning_rate: float = _setting(0.01, "SGD learning rate", symbol="eta", gt=0, le=10)
    momentum: float = _setting(0.5, "SGD momentum", ge=0, lt=1)
    weight_decay: float = _setting(1e-4, "SGD weight decay", ge=0, le=1)
    trainer: str = _setting(
        "sequential",
        "What trains clients' models: sequential (one after the other), or "
        "package.module:attribute",
        min_length=1,
    )
    device: str = _setting(
        "auto",
        "auto (the GPU when there is one), cpu, cuda or cuda:N",
        pattern=r"^(auto|cpu|cuda(:\d+)?)$",
    )
    device_memory: int = _setting(
        0,
        "Most memory that a client's data, features and models may take; 0: no cap",
        ge=0,
        le=10_000_000,
        unit="MiB",
    )
    threads: int = _setting(
        1, "CPU threads of a client's PyTorch; part of what makes a run repeatable", ge=1, le=1024
    )

    standardise: bool = _setting(
        True,
        "Shift and scale samples by the federation's moments for training (images: mean and "
        "deviation a channel)",
    )

    # -- phase 1: profile ------------------------------------------------------------------------
    warmup_rounds: int = _setting(2, "Rounds of local warm-up", symbol="t_g", ge=1, le=100)
    warmup_epochs: int = _setting(10, "Local epochs in a warm-up round", ge=1, le=1000)
    gradient_fraction: float = _setting(
        0.02, "Share of the update's coordinates that a client sends", symbol="k", gt=0, le=1
    )
    subspace_size: float = _setting(
        3.0,
        "Singular vectors a class; below 1: that share of the class's samples",
        symbol="p",
        gt=0,
        le=1000,
    )
    max_class_samples: int = _setting(
        1000, "Samples a class that enter the SVD at most (A.6.2)", ge=1, unit="samples"
    )

    min_subspace_samples: int = _setting(
        1,
        "Classes with fewer samples send no vectors (one sample's vector is that sample)",
        ge=1,
        unit="samples",
    )

    # -- phase 2: similarity ---------------------------------------------------------------------
    angle: Literal["vectors", "principal"] = _setting(
        "vectors",
        "Eq. 4 as written (smallest angle of two vectors) or the principal angle (Eq. 23)",
    )
    weight_delta: float = _setting(
        0.6, "Width of the range of frequency weights", symbol="delta", ge=0, le=1
    )
    weight_scope: Literal["shared", "all"] = _setting(
        "shared", "Classes that are weighted: those both clients have, or all (the paper's text)"
    )
    fusion: Literal["evidence", "entropy", "data", "gradient"] = _setting(
        "evidence",
        "How views of the clients become one: evidence of groups, Eq. 7 and 8, or one view alone",
    )

    fusion_steps: int = _setting(
        30,
        "Fusion by entropy: gradient steps on the weights (Eq. 8); more of them favour one view",
        ge=0,
        le=100_000,
    )

    # -- phase 3: clustering ---------------------------------------------------------------------
    linkage: Literal["average", "complete", "single"] = _setting("average", "Linkage criterion")
    threshold_step: float = _setting(
        0.05,
        "Step between candidate thresholds; 0: every merge height",
        symbol="S_alpha",
        ge=0,
        le=0.5,
    )
    split_persistence: float = _setting(
        0.33,
        "Share of the persistence at which a finer clustering of lower loss is preferred",
        ge=0,
        le=1,
    )
    size_gamma: float = _setting(
        1.0,
        "Standard deviations below the mean size that are free of penalty",
        symbol="gamma",
        ge=0,
        le=100,
    )
    size_tau: float = _setting(1.0, "Scale of the size penalty", symbol="tau", gt=0, le=1e6)
    size_lambda: float = _setting(0.01, "Weight of the size penalty", symbol="lambda", ge=0, le=1e6)

    # -- a federation that lives ----------------------------------------------------------------
    drift_threshold: float = _setting(
        0.2,
        "Share of a client's samples that must have changed class for it to be placed anew "
        "(Eq. 41); 0: never",
        symbol="xi",
        ge=0,
        le=1,
    )
    regroup_share: float = _setting(
        0.5,
        "Clients placed since the last clustering, as a share of all, at which all are clustered "
        "anew; 0: never",
        ge=0,
        le=1,
    )

    # -- phase 4 and 5: sharing and training -----------------------------------------------------
    secondary: Literal["shared", "own", "none"] = _setting(
        "shared",
        "Secondary encoder: trained by source clusters (FedDAG), by the cluster itself "
        "(FedDAG-dagger), or absent (FedDAG*)",
    )
    sources: Literal["agreeing", "all", "graph"] = _setting(
        "agreeing",
        "Clusters that train a cluster's shared secondary encoder: those whose updates of it "
        "agree (all at first), all, or the top-k of the complementarity graph",
    )
    agreement_rounds: int = _setting(
        8,
        "Rounds of the secondary phase over which agreement is measured; clusters part that fall "
        "short in two such spans on end, in the second hardly less",
        unit="rounds",
        ge=1,
        le=10_000,
    )
    agreement_threshold: float = _setting(
        0.3, "Agreement from which on clusters share a secondary encoder", ge=0, le=1
    )
    top_k: int = _setting(
        2, "Sources of a cluster in the complementarity graph", symbol="k", ge=1, le=1000
    )
    alignment: bool = _setting(True, "Scores of sources by Eq. 14; false: Eq. 12")
    combine_sources: Literal["mean", "sum"] = _setting(
        "mean",
        "How the updates of several source clusters join: their mean, in which one of one client "
        "counts as much as one of fifty, or their sum (Eq. 21)",
    )
    classifier_training: Literal["halves", "joint"] = _setting(
        "halves",
        "halves: each encoder and its half of the classifier on their own loss; joint: P and the "
        "whole classifier, then S alone, on the whole model's loss (Eq. 16 to 20)",
        symbol="K",
    )
    secondary_start: Literal["warm", "random"] = _setting(
        "warm", "Secondary encoders: mean of all clients' warmed-up ones, or random"
    )
    schedule: str = _setting(
        "both",
        "Phases of a round: both, or K:1 (K primary rounds, then a secondary one; B.9)",
        pattern=r"^(both|[1-9]\d{0,3}:1)$",
    )
    initialisation: Literal["warm", "random"] = _setting(
        "warm", "Primary encoders: mean of the members' warmed-up ones (Eq. 22), or random (A.11)"
    )
    diversity: float = _setting(
        0.0, "Weight of the diversity regulariser (Eq. 42)", symbol="lambda_div", ge=0, le=1000
    )

    # -- rivals ----------------------------------------------------------------------------------
    num_clusters: int = _setting(
        5, "Models of the algorithms that must be told how many", symbol="K", ge=1, le=1000
    )
    fedprox_mu: float = _setting(
        0.01, "FedProx: weight of the proximal term", symbol="mu", ge=0, le=1000
    )
    per_fedavg_alpha: float = _setting(
        0.01, "Per-FedAvg: rate of the inner step", symbol="alpha", gt=0, le=10
    )
    fedsoft_lambda: float = _setting(
        0.1, "FedSoft: weight of the pull towards the centres", symbol="lambda", ge=0, le=1000
    )
    fedsoft_interval: int = _setting(
        2,
        "FedSoft: every so many rounds the importance weights are estimated anew",
        symbol="tau",
        ge=1,
        le=100_000,
        unit="rounds",
    )
    fedsoft_floor: float = _setting(
        1e-4, "FedSoft: least importance of a cluster for a client", symbol="sigma", gt=0, le=1
    )
    pacfl_threshold: float = _setting(
        0.0,
        "PACFL: threshold of the clustering; 0: it is told the number, num-clusters",
        symbol="beta",
        ge=0,
        le=90,
        unit="degrees",
    )
    cfl_eps1: float = _setting(
        0.4,
        "CFL: a cluster may be cut while its mean update is shorter",
        symbol="eps_1",
        gt=0,
        le=1e6,
    )
    cfl_eps2: float = _setting(
        1.6,
        "CFL: a cluster may be cut while its longest update is longer",
        symbol="eps_2",
        gt=0,
        le=1e6,
    )
    cfl_thresholds: Literal["absolute", "relative"] = _setting(
        "relative",
        "CFL: eps_1, eps_2 as they are, or times the longest mean update of a cluster so far",
    )
    cfl_gamma_max: float = _setting(
        0.0,
        "CFL: a cut must be separated by more than this; 0: any cut will do (the public code)",
        symbol="gamma_max",
        ge=0,
        le=1,
    )
    cfl_bipartition: Literal["complete", "optimal"] = _setting(
        "complete",
        "CFL: cut by complete linkage (the public code) or by least similarity across (the paper)",
    )
    cfl_quiet_rounds: int = _setting(
        20, "CFL: first rounds, in which no cluster is cut", ge=0, le=100_000, unit="rounds"
    )
    cfl_gp_profile: Literal["update", "gradient"] = _setting(
        "update", "CFL-GP: cluster by local updates of common models, or by their gradients"
    )
    cfl_gp_period: int = _setting(
        10,
        "CFL-GP: every so many rounds all clients send a gradient and are clustered anew",
        symbol="P",
        ge=1,
        le=100_000,
        unit="rounds",
    )
    cfl_gp_last_round: int = _setting(
        50, "CFL-GP: clusters stay as they are after this round", ge=1, le=100_000
    )
    fedgwc_rbf: float = _setting(
        0.1,
        "FedGWC: kernel width exp(-gamma d^2) of the affinity of perceptions",
        symbol="gamma",
        gt=0,
        le=1e6,
    )
    fedgwc_epsilon: float = _setting(
        0.1,
        "FedGWC: interactions stand still below this mean squared change, times 1/N^2",
        symbol="epsilon",
        gt=0,
        le=1e12,
    )

    @field_validator("algorithm")
    @classmethod
    def _known_algorithm(cls, value: str) -> str:
        if value not in ALGORITHMS and value.count(":") != 1:
            raise ValueError(f"must be one of {', '.join(ALGORITHMS)}, or package.module:Class")
        return value

    @field_validator("objective", "optimiser", "trainer")
    @classmethod
    def _known_part(cls, value: str, info: ValidationInfo) -> str:
        registry = _REGISTRIES[str(info.field_name)]
        try:
            return registry.check(value)
        except RegistryError as error:
            raise ValueError(f"must be {registry.allowed}") from error

    @field_validator("postprocessors")
    @classmethod
    def _known_postprocessors(cls, value: str) -> str:
        names = name_list(value)
        for name in names:
            try:
                POSTPROCESSORS.check(name)
            except RegistryError as error:
                raise ValueError(
                    f"{name!r} must be {POSTPROCESSORS.allowed}, separated by commas"
                ) from error
        if len(set(names)) < len(names):
            raise ValueError("must name each postprocessor once")
        if "transport" in names[:-1]:
            raise ValueError("transport must be the last one")
        return value

    @field_validator("run_name")
    @classmethod
    def _one_folder(cls, value: str) -> str:
        if value in {".", ".."} or "/" in value or "\\" in value:
            raise ValueError("must be one folder name, without slashes")
        return value

    @field_validator("class_names")
    @classmethod
    def _different_classes(cls, value: str) -> str:
        names = class_list(value)
        if value and (not all(names) or len(set(names)) < len(names)):
            raise ValueError("must be different names, separated by commas")
        return value

    @field_validator("metrics")
    @classmethod
    def _known_metrics(cls, value: str) -> str:
        try:
            metric_names(value)
        except RegistryError as error:
            raise ValueError(str(error).partition(": ")[2]) from error
        return value

    @field_validator("modality")
    @classmethod
    def _known_modality(cls, value: str) -> str:
        try:
            return MODALITIES.check(value)
        except RegistryError as error:
            raise ValueError(str(error).partition(": ")[2]) from error

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

    @field_validator("threshold_step")
    @classmethod
    def _step_or_none(cls, value: float) -> float:
        if 0 < value < MIN_THRESHOLD_STEP:
            raise ValueError(f"must be 0 or at least {MIN_THRESHOLD_STEP}")
        return value

    @field_validator("model")
    @classmethod
    def _known_model(cls, value: str) -> str:
        if value not in {"auto", "small", "lenet", "cnn3"} and value.count(":") != 1:
            raise ValueError("must be auto, small, lenet, cnn3 or package.module:factory")
        return value

    @model_validator(mode="after")
    def _agree(self) -> Settings:
        if self.source not in {"digits"} and not self.data_dir and self.scenario != "own":
            raise ValueError(f"data-dir = '': source {self.source!r} needs a folder or file")
        if self.scenario == "own" and self.source not in {"npz", "image-folder"}:
            raise ValueError(
                f"source = {self.source!r}: scenario 'own' takes 'npz' or 'image-folder'"
            )
        if self.modality != "image":
            self._check_modality()
        grouped = self.scenario in {"label-skew", "class-pairs"}
        if grouped and self.client_groups > self.num_clients:
            raise ValueError(
                f"client-groups = {self.client_groups}: at most num-clients = {self.num_clients}"
            )
        if self.min_clients > self.num_clients:
            raise ValueError(
                f"min-clients = {self.min_clients}: at most num-clients = {self.num_clients}"
            )
        if self.transport != "float32" and "transport" not in name_list(self.postprocessors):
            raise ValueError(
                f"postprocessors = {self.postprocessors!r}: transport = {self.transport!r} needs "
                "'transport' as the last one"
            )
        self._check_changes_of_clients()
        if self.secondary == "none" and self.schedule != "both":
            raise ValueError(f"schedule = {self.schedule!r}: secondary = 'none' has no such phase")
        separate_heads = self.classifier_training == "halves"
        if self.secondary == "shared" and self.sources == "graph" and separate_heads:
            raise ValueError(
                f"classifier-training = {self.classifier_training!r}: under sources = 'graph' a "
                "cluster trains other clusters' S, and its half of the classifier would not fit "
                "its own; must be 'joint'"
            )
        if self.secondary == "none" and self.diversity > 0:
            raise ValueError(f"diversity = {self.diversity}: needs a secondary encoder")
        return self

    def _check_modality(self) -> None:
        """Refuse what is for images alone."""
        if self.source != "npz":
            raise ValueError(
                f"source = {self.source!r}: modality {self.modality!r} takes 'npz' alone"
            )
        for name, nothing in (("rotations", 1), ("corruptions", "")):
            if getattr(self, name) != nothing:
                raise ValueError(f"{name} = {getattr(self, name)!r}: only images can be varied so")

    def _check_changes_of_clients(self) -> None:
        """Refuse newcomers and drift that could not happen."""
        for what, share, happens in (
            ("newcomer", self.newcomer_share, self.newcomer_round),
            ("drift", self.drift_share, self.drift_round),
        ):
            if share and happens > self.num_rounds:
                raise ValueError(
                    f"{what}-round = {happens}: at most num-rounds = {self.num_rounds}, for "
                    f"{what}-share = {share}"
                )
        late, drifting = (
            round(share * self.num_clients) for share in (self.newcomer_share, self.drift_share)
        )
        if self.newcomer_share and not 1 <= late <= self.num_clients - 2:
            raise ValueError(
                f"newcomer-share = {self.newcomer_share}: {late} of num-clients = "
                f"{self.num_clients}, must be one at least and leave two to begin with"
            )
        if self.drift_share and drifting < 2:
            raise ValueError(
                f"drift-share = {self.drift_share}: {drifting} of num-clients = "
                f"{self.num_clients}, must be two at least that can swap"
            )

    @model_validator(mode="after")
    def _scenario_agrees(self) -> Settings:
        if self.scenario == "domains" and self.source != "image-folder":
            raise ValueError(f"source = {self.source!r}: scenario 'domains' takes 'image-folder'")
        classes = _SOURCE_CLASSES.get(self.source)
        if self.scenario == "class-pairs" and classes is not None:
            pairs = math.comb(classes, 2)
            if self.client_groups > pairs:
                raise ValueError(
                    f"client-groups = {self.client_groups}: scenario 'class-pairs' has {pairs} "
                    f"pairs of the {classes} classes of source {self.source!r}"
                )
        if self.scenario == "own":
            made_up = (
                "train_share", "test_share", "concepts", "rotations", "corruptions",
                "newcomer_share", "drift_share",
            )  # fmt: skip
            for name in made_up:
                value, field = getattr(self, name), type(self).model_fields[name]
                if value != field.default:
                    raise ValueError(
                        f"{field.alias} = {value!r}: scenario 'own' takes clients' data as it is"
                    )
        return self

    @model_validator(mode="before")
    @classmethod
    def _take_preset(cls, given: dict[str, SettingValue]) -> dict[str, SettingValue]:
        """Replace defaults by those of the preset; what differs from its default stays."""
        if given.get("preset") != "paper":
            return given
        defaults = {field.alias: field.default for field in cls.model_fields.values()}
        papers = {
            name: value
            for name, value in PAPER.items()
            if given.get(name, defaults[name]) == defaults[name]
        }
        return {**given, **papers}

    @property
    def secondary_period(self) -> int:
        """Rounds from one secondary phase to the next."""
        return 1 if self.schedule == "both" else 1 + int(self.schedule.partition(":")[0])

    @classmethod
    def from_run_config(cls, run_config: Mapping[str, SettingValue]) -> Settings:
        """Validate a Flower run config.

        Parameters
        ----------
        run_config : mapping
            Setting names with hyphens to values; settings left out take their defaults.

        Returns
        -------
        Settings

        Raises
        ------
        SettingsError
            One line for each fault: the key, the value it had, and what is allowed.
        """
        try:
            return cls.model_validate(dict(run_config))
        except ValidationError as error:
            raise SettingsError(
                "\n".join(_explain(dict(fault)) for fault in error.errors())
            ) from None

    def to_run_config(self) -> dict[str, SettingValue]:
        """Return all settings under their hyphenated names."""
        return self.model_dump(by_alias=True)


def class_list(text: str) -> tuple[str, ...]:
    """Return the classes that a value of the setting ``class-names`` names, in its order.

    In Unicode's form NFC, as all names of classes are.
    """
    return tuple(class_name(name.strip()) for name in text.split(",")) if text else ()


def name_list(text: str) -> tuple[str, ...]:
    """Return the names of a setting that lists some, separated by commas."""
    return tuple(name for each in text.split(",") if (name := each.strip()))


def corruption_kinds(text: str) -> tuple[str, ...]:
    """Return the kinds that a value of the setting ``corruptions`` names, in its order."""
    if text.strip() == "all":
        return CORRUPTIONS
    return tuple(kind.strip() for kind in text.split(",")) if text.strip() else ()


def names() -> list[str]:
    """Return the hyphenated names of all settings."""
    return [str(field.alias) for field in Settings.model_fields.values()]


def markdown_table() -> str:
    """Write all settings as a Markdown table: name, default, range, unit, symbol, meaning."""
    lines = ["| setting | default | allowed | paper | meaning |", "|---|---|---|---|---|"]
    for field in Settings.model_fields.values():
        extra = cast(dict[str, str], field.json_schema_extra)
        unit = f" {extra['unit']}" if extra["unit"] else ""
        meaning = str(field.description).replace("|", "\\|")
        default = json.dumps(field.default)
        lines.append(
            f"| `{field.alias}` | `{default}`{unit} | {_allowed(field)} | {extra['symbol']} "
            f"| {meaning} |"
        )
    return "\n".join(lines)


def _allowed(field: FieldInfo) -> str:
    """Write a field's choices or range."""
    choices = cast(dict[str, list[str]], field.json_schema_extra)["choices"]
    if choices:
        return ", ".join(f"`{choice}`" for choice in choices)
    if get_origin(field.annotation) is Literal:
        return ", ".join(f"`{choice}`" for choice in get_args(field.annotation))
    if field.annotation is bool:
        return "`true`, `false`"
    bounds = {
        sign: getattr(part, name)
        for part in field.metadata
        for name, sign in (("ge", "≥"), ("gt", ">"), ("le", "≤"), ("lt", "<"))
        if hasattr(part, name)
    }
    return ", ".join(f"{sign} {bound:g}" for sign, bound in bounds.items()) or "text"


def _explain(fault: dict[str, Any]) -> str:
    """Turn one pydantic fault into 'key = value: what is allowed'."""
    message = str(fault["msg"]).removeprefix("Value error, ")
    if not fault["loc"]:  # a fault between settings names its keys itself
        return f"setting {message}"
    key = str(fault["loc"][0])
    if fault["type"] == "extra_forbidden":
        near = difflib.get_close_matches(key, names(), n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        return f"unknown setting {key!r} = {fault['input']!r}{hint}"
    return f"setting {key} = {fault['input']!r}: {message[0].lower()}{message[1:]}"


if __name__ == "__main__":
    print(markdown_table())

"""Runs every algorithm and variant on the digits in process, and prints a fingerprint of each run.

Two trees behave alike where they print the same fingerprints on the same machine::

    PYTHONPATH=OLD python tests/behaviour/fingerprints.py old.json
    PYTHONPATH=NEW:NEW/tests python tests/behaviour/fingerprints.py new.json --against old.json

A fingerprint covers ``metrics.jsonl`` (each line, under the names of `RENAMED_METRICS`), the last
checkpoint's assignments and sources, and the numbers of every model. `IGNORED_METRICS` are the
bytes of whole messages, which change with their names and headers.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import logging
import os
import sys
import tempfile
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

Value = bool | int | float | str
Config = dict[str, Value]

# Settings of the tree as it was -> as they are; values where their names changed, too.
RENAMED_SETTINGS: dict[str, str] = {
    "source": "dataset",
    "sources": "teacher-clusters",
    "combine-sources": "combine-teachers",
    "wave-size": "max-in-flight",
    "regroup-share": "recluster-share",
    "unseen-share": "held-out-share",
    "fine-tune-epochs": "personalisation-epochs",
}
RENAMED_VALUES: dict[tuple[str, Value], Value] = {("classifier-training", "halves"): "separate"}
# Names in metrics.jsonl and in checkpoints as they are -> as they were.
RENAMED_METRICS: dict[str, str] = {
    "teachers": "sources",
    "failed": "lost",
    "held-out": "unseen",
    "held-out-personalised": "unseen-tuned",
    "personalised": "tuned",
    "candidate_losses": "measure",
    "transfer": "shared",
    "transfer's buffers": "shared's buffers",
}
IGNORED_METRICS = frozenset({"bytes-sent", "overhead"})

COMMON: Config = {
    "num-clients": 8,
    "client-groups": 3,
    "num-rounds": 4,
    "participation": 0.6,
    "warmup-rounds": 1,
    "warmup-epochs": 2,
    "batch-size": 32,
    "local-epochs": 1,
    "learning-rate": 0.05,
    "evaluate-every": 2,
    "join-timeout": 5.0,
    "num-clusters": 3,
}

RUNS: dict[str, Config] = {
    **{
        name: {"algorithm": name}
        for name in (
            "feddag", "fedavg", "local", "oracle", "fedprox", "per-fedavg", "pacfl", "ifca",
            "cfl", "cfl-gp", "fedsoft", "fedrc", "fedgwc",
        )
    },
    "dagger": {"secondary": "own"},
    "star": {"secondary": "none"},
    "star-data": {"secondary": "none", "fusion": "data"},
    "star-gradient": {"secondary": "none", "fusion": "gradient"},
    "entropy": {"fusion": "entropy", "weight-scope": "all"},
    "paper": {"preset": "paper"},
    "principal": {"angle": "principal", "fusion": "data"},
    "all-share": {"sources": "all", "combine-sources": "sum"},
    "graph": {"sources": "graph", "classifier-training": "joint"},
    "graph-unaligned": {"sources": "graph", "classifier-training": "joint", "alignment": False},
    "agreeing-window": {"agreement-rounds": 1, "num-rounds": 6, "agreement-threshold": 0.9},
    "schedule": {"schedule": "2:1", "num-rounds": 6},
    "schedule-joint": {"schedule": "1:1", "classifier-training": "joint"},
    "diversity": {"initialisation": "random", "secondary-start": "random", "diversity": 0.5},
    "float16": {"transport": "float16"},
    "bfloat16": {"transport": "bfloat16"},
    "complete": {"linkage": "complete", "threshold-step": 0.0},
    "fraction": {"subspace-size": 0.1, "max-class-samples": 20, "min-subspace-samples": 2},
    "fine-tune": {"fine-tune-epochs": 1, "evaluate-participants": False},
    "no-rounds": {"num-rounds": 0},
    "concepts": {"concepts": 3, "label-skew": 100.0, "client-groups": 1},
    "rotations": {"rotations": 4, "label-skew": 100.0, "client-groups": 1},
    "corruptions": {"corruptions": "fog, contrast", "severity": 0},
    "dirichlet": {"scenario": "lda", "dirichlet-alpha": 0.25},
    "pairs": {"scenario": "class-pairs", "client-groups": 4},
    "raw-pixels": {"standardise": False, "train-share": 0.5, "test-share": 0.5},
    "class-order": {"model": "small", "class-names": "9,8,7,6,5,4,3,2,1,0"},
    "unseen": {"unseen-share": 0.25, "fine-tune-epochs": 1},
    "unseen-pacfl": {"algorithm": "pacfl", "unseen-share": 0.25},
    "unseen-ifca": {"algorithm": "ifca", "unseen-share": 0.25},
    "unseen-fedrc": {"algorithm": "fedrc", "unseen-share": 0.25},
    "unseen-oracle": {"algorithm": "oracle", "unseen-share": 0.25},
    "newcomers": {"newcomer-share": 0.25, "newcomer-round": 2},
    "newcomers-fedsoft": {"algorithm": "fedsoft", "newcomer-share": 0.25, "newcomer-round": 2},
    "newcomers-local": {"algorithm": "local", "newcomer-share": 0.25, "newcomer-round": 2},
    "newcomers-cfl": {"algorithm": "cfl", "newcomer-share": 0.25, "newcomer-round": 2},
    "newcomers-gwc": {"algorithm": "fedgwc", "newcomer-share": 0.25, "newcomer-round": 2},
    "drift": {"drift-share": 0.5, "drift-round": 2, "num-rounds": 6},
    "regroup": {
        "newcomer-share": 0.25, "newcomer-round": 2, "num-rounds": 6, "regroup-share": 0.2,
    },
    "regroup-graph": {
        "drift-share": 0.5, "drift-round": 2, "num-rounds": 6, "regroup-share": 0.2,
        "sources": "graph", "classifier-training": "joint",
    },
    "regroup-moves": {
        "newcomer-share": 0.5, "newcomer-round": 2, "num-rounds": 5, "regroup-share": 0.2,
        "num-clients": 10, "fusion": "data", "scenario": "lda", "dirichlet-alpha": 0.3,
    },
    "parting": {
        "concepts": 3, "label-skew": 100.0, "client-groups": 1, "agreement-rounds": 2,
        "agreement-threshold": 1.0, "participation": 1.0, "num-rounds": 8, "local-epochs": 3,
        "num-clients": 9, "fusion": "data",
    },
    "cfl-cuts": {
        "algorithm": "cfl", "cfl-quiet-rounds": 1, "cfl-eps1": 10.0, "cfl-eps2": 0.1,
        "num-rounds": 6, "participation": 1.0,
    },
    "cfl-optimal": {
        "algorithm": "cfl", "cfl-quiet-rounds": 1, "cfl-eps1": 10.0, "cfl-eps2": 0.1,
        "cfl-bipartition": "optimal", "cfl-thresholds": "absolute", "participation": 1.0,
    },
    "cfl-gp-gradient": {"algorithm": "cfl-gp", "cfl-gp-profile": "gradient", "cfl-gp-period": 1},
    "cfl-gp-often": {"algorithm": "cfl-gp", "cfl-gp-period": 1, "cfl-gp-last-round": 3},
    "fedgwc-splits": {
        "algorithm": "fedgwc", "fedgwc-epsilon": 1e9, "num-rounds": 8, "participation": 0.4,
        "num-clients": 12,
    },
    "pacfl-threshold": {"algorithm": "pacfl", "pacfl-threshold": 20.0},
    "fedsoft-often": {"algorithm": "fedsoft", "fedsoft-interval": 1, "fedsoft-lambda": 1.0},
}  # fmt: skip

# Runs that are stopped after some rounds and resumed; each must equal the one that nobody stopped.
RESUMED: dict[str, int] = {
    "feddag": 2, "graph": 2, "drift": 3, "regroup": 3, "unseen": 2, "agreeing-window": 3,
    "pacfl": 2, "ifca": 2, "cfl-cuts": 3, "cfl-gp-often": 2, "fedsoft": 3, "fedrc": 2,
    "fedgwc-splits": 4, "oracle": 2, "local": 2, "newcomers": 2, "regroup-moves": 3, "parting": 7,
}  # fmt: skip


def translated(config: Config) -> Config:
    """Return settings under their present names."""
    return {
        RENAMED_SETTINGS.get(key, key): RENAMED_VALUES.get((key, value), value)
        for key, value in config.items()
    }


def run(name: str, stop_after: int | None = None) -> str:
    """Do one run, perhaps in two pieces; return its fingerprint."""
    import torch

    torch.set_num_threads(1)
    from feddag_flwr.settings import Settings
    from feddag_flwr.simulation import run_in_process

    logging.getLogger("flwr").setLevel(logging.CRITICAL)
    sys.stdout = open(os.devnull, "w")  # noqa: PTH123, SIM115
    config = {**COMMON, **RUNS[name]}
    with tempfile.TemporaryDirectory() as folder:
        config |= {"run-dir": folder, "run-name": "run"}
        if stop_after is not None:
            first = {**config, "num-rounds": stop_after}
            if stop_after >= int(config["num-rounds"]):
                raise ValueError(name)
            run_in_process(Settings.from_run_config(translated(first)))
            config["resume"] = str(Path(folder) / "run")
        path = run_in_process(Settings.from_run_config(translated(config)))
        return fingerprint(path, with_metrics=stop_after is None)


def fingerprint(path: Path, *, with_metrics: bool) -> str:
    """Hash what came of a run."""
    digest = hashlib.sha256()
    if with_metrics:
        for line in (path / "metrics.jsonl").read_text().splitlines():
            digest.update(json.dumps(plain(json.loads(line)), sort_keys=True).encode())
    checkpoint = sorted((path / "checkpoints").glob("round-*"))[-1]
    state = plain(json.loads((checkpoint / "state.json").read_text()))
    for key in ("assignments", "sources", "class-names", "clients"):
        digest.update(json.dumps(state[key], sort_keys=True).encode())
    for model in sorted((checkpoint / "models").glob("cluster-*.safetensors")):
        for name, content in sorted(flat_vectors(model).items()):
            digest.update(name.encode())
            digest.update(content)
    return digest.hexdigest()


def plain(value: Any) -> Any:
    """Return JSON under its former names, without what is ignored."""
    if isinstance(value, Mapping):
        return {
            RENAMED_METRICS.get(key, key): plain(each)
            for key, each in value.items()
            if key not in IGNORED_METRICS
        }
    return [plain(each) for each in value] if isinstance(value, list) else value


def flat_vectors(path: Path) -> dict[str, bytes]:
    """Return each part's parameters, buffers and counters, one vector each, in the layout's order.

    As float32 and int64, the types in which the server computes.
    """
    from safetensors.numpy import load_file

    tensors = load_file(path)
    layout = json.loads((path.parent.parent / "state.json").read_text())["layout"]
    vectors: dict[str, bytes] = {}
    for part, specs in layout.items():
        for spec in specs:
            if (values := tensors.get(f"{part}.{spec['name']}")) is not None and values.size:
                name = f"{part}.{spec['kind']}"
                form = "int64" if spec["kind"] == "integers" else "float32"
                vectors[name] = vectors.get(name, b"") + values.astype(form).tobytes()
    return vectors


def main() -> int:
    """Print fingerprints as JSON, and what differs."""
    parser = argparse.ArgumentParser()
    parser.add_argument("output", type=Path)
    parser.add_argument("--against", type=Path)
    parser.add_argument("--only", nargs="*")
    parser.add_argument("--workers", type=int, default=2)
    given = parser.parse_args()
    jobs: list[tuple[str, str, int | None]] = [(name, name, None) for name in RUNS]
    jobs += [(f"{name}, resumed", name, after) for name, after in RESUMED.items()]
    if given.only:
        jobs = [job for job in jobs if job[1] in given.only]
    with ProcessPoolExecutor(given.workers) as pool:
        waiting = {title: pool.submit(run, name, after) for title, name, after in jobs}
        found = {}
        for title, future in waiting.items():
            try:
                found[title] = future.result()
            except Exception as error:
                found[title] = f"{type(error).__name__}: {error}"
    given.output.write_text(json.dumps(found, indent=1) + "\n")
    failed = [title for title, value in found.items() if len(value) != 64]
    for title in failed:
        print(f"failed: {title}: {found[title]}")
    if given.against is None:
        print(f"{len(found)} runs, {len(failed)} failed")
        return bool(failed)
    before = json.loads(given.against.read_text())
    differ = [title for title, value in found.items() if before.get(title) != value]
    print(f"{len(found) - len(differ)} of {len(found)} runs identical")
    for title in differ:
        print(f"differs: {title}")
    return bool(differ)


if __name__ == "__main__":
    sys.exit(main())

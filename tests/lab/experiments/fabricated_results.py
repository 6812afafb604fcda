"""Small results folders with figures made up, in the layout that the runner leaves."""

import json

SETTINGS = {"num-clients": 2, "num-rounds": 2, "evaluate-every": 1, "learning-rate": 0.01}


def write_suite(folder, algorithms, scenarios, seeds, **more):
    """`scenarios`: display name to published path or None."""
    folder.mkdir(parents=True, exist_ok=True)
    suite = {
        "name": "made-up",
        "description": "a suite of made-up figures",
        "settings": {},
        "algorithms": {name: {"algorithm": name.lower()} for name in algorithms},
        "scenarios": {
            name: {"settings": {"label-skew": 30.0}, "published": published}
            for name, published in scenarios.items()
        },
        "seeds": list(seeds),
        "command-line": {},
        **more,
    }
    (folder / "suite.json").write_text(json.dumps(suite))


def evaluation(shares, samples=100):
    """An evaluation in which a client's plain accuracy is its balanced one minus 0.01."""
    by_client = {
        name: {
            "balanced-accuracy": share,
            "accuracy": share - 0.01,
            "samples": samples[name] if isinstance(samples, dict) else samples,
        }
        for name, share in shares.items()
    }
    mean = sum(shares.values()) / len(shares) if shares else None
    return {
        "overall": {"clients": len(shares), "balanced-accuracy": mean},
        "by-cluster": {},
        "by-client": by_client,
    }


def lines_of(shares, samples=100, rounds=2, extra=None):
    """Three lines (for two rounds): profile, and rounds with evaluations that rise to `shares`.

    Bytes of all clients: 1,000 for the profile, then 300 for training and 100 for evaluation.
    """
    profile = {"down": {"profile": 400}, "up": {"profile": 600}}
    lines = [{"round": 0, "clusters": 2, "bytes": profile, "moved": dict.fromkeys(shares, 0)}]
    for number in range(1, rounds + 1):
        now = {name: share * number / rounds for name, share in shares.items()}
        lines.append(
            {
                "round": number,
                "clusters": 2,
                "all": evaluation(now, samples),
                "bytes": {
                    "down": {"train": 200, "evaluate": 90},
                    "up": {"train": 100, "evaluate": 10},
                },
            }
        )
    lines[-1] |= extra or {}
    return lines


def write_trial(
    folder, algorithm, scenario, seed, shares=None, *, samples=100, rounds=2, extra=None,
    status="finished", reason=None, settings=None, summary=None, lines=None, groups=None,
):  # fmt: skip
    """Write one trial; `shares` are the clients' balanced accuracies after the last round."""
    names = [scenario, algorithm, str(seed)]
    trial = (
        folder / "trials" / "--".join("".join(c for c in n if c.isalnum()) or "x" for n in names)
    )
    # FedDAG and FedDAG* must not share a folder.
    trial = trial.with_name(trial.name + "-star" * algorithm.count("*"))
    trial.mkdir(parents=True)
    record = {
        "algorithm": algorithm, "scenario": scenario, "seed": seed, "status": status,
        "reason": reason, "seconds": 60.0, "cpu-seconds": 90.0, "version": "0.1.0",
        "commit": "abc", "backend": "in-process", "started": f"2026-11-2{seed}T10:00:00+00:00",
        "finished": f"2026-11-2{seed}T10:01:00+00:00",
    }  # fmt: skip
    (trial / "trial.json").write_text(json.dumps(record))
    if shares is None:
        return trial
    values = {
        **SETTINGS, "algorithm": algorithm.lower(), "label-skew": 30.0, "seed": seed,
        "num-clients": len(shares), "num-rounds": rounds, **(settings or {}),
    }  # fmt: skip
    (trial / "settings.json").write_text(json.dumps(values))
    lines = lines_of(shares, samples, rounds, extra) if lines is None else lines
    (trial / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    total = 1000 + 400 * rounds
    closing = {
        "rounds": rounds,
        "num-clusters": 3,
        "clusters": [
            {"cluster": 0, "members": sorted(shares)[:1]},
            {"cluster": 1, "members": sorted(shares)[1:]},
            {"cluster": 2, "members": []},
        ],
        "without-cluster": [],
        "overall": {"clients": len(shares)},
        "adjusted-rand-index": 0.5,
        "bytes-per-client": round(total / len(shares)),
        "true-groups": groups or {},
        **(summary or {}),
    }
    (trial / "summary.json").write_text(json.dumps(closing))
    return trial

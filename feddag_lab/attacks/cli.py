"""The command ``feddag-lab attacks``."""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

OUTPUT = Path("results") / "attacks"
# What is measured, in this order; `feddag_lab.attacks.catalogue` has the attacks themselves.
NAMES = ("profile-images", "inversion", "membership", "classes")


def add_command(commands: Any) -> None:  # noqa: ANN401 - argparse has no public type for it
    """Add ``attacks`` to the sub-commands of ``feddag-lab``."""
    parser = commands.add_parser(
        "attacks",
        help="attack what clients send, as a curious server could, with and without defences",
        description="Measure what a curious server finds in what clients send: images, members, "
        "classes. Clients answer by the app's own code. A line of JSON a trial; what is there is "
        "not measured again.",
    )
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help=f"default: all of {', '.join(NAMES)}"
    )
    parser.add_argument(
        "--data-dir", default="", metavar="DIR", help="folder of Fashion-MNIST; default: digits"
    )
    parser.add_argument(
        "--seeds", type=int, nargs="+", default=[1, 2, 3], metavar="SEED", help="default: 1 2 3"
    )
    parser.add_argument(
        "--output", type=Path, default=OUTPUT, metavar="DIR", help="default: results/attacks"
    )
    parser.add_argument("--smallest", action="store_true", help="one quick trial of each kind")
    parser.set_defaults(handler=run)


def run(options: argparse.Namespace) -> int:
    """Run the trials that are missing, then print tables of all; 2 for an unknown name."""
    unknown = sorted(set(options.names) - set(NAMES))
    if unknown:
        print(f"feddag-lab: attacks: {unknown[0]!r} is unknown, must be one of {', '.join(NAMES)}")
        return 2
    from feddag_lab.attacks.catalogue import ATTACKS  # PyTorch and TorchMetrics take seconds
    from feddag_lab.attacks.findings import Findings
    from feddag_lab.attacks.image_pool import ImagePool

    attacks = [ATTACKS[name] for name in NAMES if name in (options.names or NAMES)]
    pool = ImagePool.load(options.data_dir and str(Path(options.data_dir).expanduser().resolve()))
    findings = Findings(options.output)
    for attack in attacks:
        trials = attack.trials(pool.dataset, options.seeds, smallest=options.smallest)
        for trial in findings.missing(trials):
            begun = time.monotonic()
            figures = attack.run(trial, pool)
            findings.add(trial, figures, time.monotonic() - begun)
            print(f"{attack.name}, seed {trial.seed}, {trial.defence}: {trial.case}", flush=True)
    print(findings.report(attacks))
    return 0

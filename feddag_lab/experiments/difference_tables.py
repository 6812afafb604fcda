"""The report's tables of differences between the reference and each baseline."""

from __future__ import annotations

from collections.abc import Sequence
from typing import get_args

from feddag_lab.experiments.comparison import Outcome, PairedDifference, reference_of
from feddag_lab.experiments.markdown import ABSENT, interval, plain, table
from feddag_lab.experiments.results import Results
from feddag_lab.experiments.statistics import RESAMPLES

FEW_SEEDS = 3


def difference_section(results: Results, differences: Sequence[PairedDifference]) -> list[str]:
    """Explain the method, count wins, and lay out one table of differences a scenario."""
    if not differences:
        return []
    reference = plain(reference_of(results))
    lines = [
        f"## {reference} minus each baseline",
        "",
        f"A difference is {reference}'s balanced accuracy minus the baseline's for the same client "
        "on the same test data with the same seed; the figure is the mean over seeds of the mean "
        "over clients, so that each seed counts once. "
        f"The bootstrap interval (95 %, percentile, {RESAMPLES:,} times) draws seeds, and then "
        "clients within each seed drawn: it covers which clients there are, but shows only "
        "(S - 1) / S of the variance between S seeds. "
        "Clients of one run share models, so that seeds alone are independent repetitions, and the "
        "t interval (95 %) over the S seed means is the one to ask whether other seeds would give "
        "the same; neither is corrected for the number of comparisons.",
        "",
        "A win or a loss (`**`): both intervals leave out 0 on the same side. Where only the "
        "bootstrap interval does (`*`), that holds over the clients of these seeds, and is counted "
        "apart.",
        "",
        *_seeds_caution(differences),
        *_score_table(results, differences),
    ]
    for scenario in results.suite.scenarios:
        of_it = [each for each in differences if each.scenario == scenario]
        paired = [each for each in of_it if each.seed_means]
        notes = _notes(of_it)
        if not paired and not any(each.notes for each in of_it):
            continue
        lines += [f"### Differences: {plain(scenario)}", "", *_seeds_caution(paired)]
        lines += _difference_table(paired) if paired else []
        lines += [*notes, ""] if notes else []
    return lines


def _notes(differences: Sequence[PairedDifference]) -> list[str]:
    """Say what is missing, a line a seed, and then what could not be paired."""
    seeds = sorted({seed for each in differences for seed in each.lacking})
    lines = []
    for seed in seeds:
        names = dict.fromkeys(name for each in differences for name in each.lacking.get(seed, ()))
        lines.append(f"- seed {seed}: no figures of {', '.join(map(plain, names))}")
    return [*lines, *dict.fromkeys(f"- {plain(n)}" for each in differences for n in each.notes)]


def _score_table(results: Results, differences: Sequence[PairedDifference]) -> list[str]:
    """Count wins, ties and losses of the reference over scenarios, a row a baseline."""
    rows = []
    for baseline in results.suite.algorithms:
        of_it = [each for each in differences if each.baseline == baseline]
        if not of_it:
            continue
        counts = [sum(each.outcome == outcome for each in of_it)
                  for outcome in (*get_args(Outcome), None)]  # fmt: skip
        rows.append([plain(baseline), *map(str, counts)])
    header = ("against, over scenarios", "wins", "wins over clients only", "ties",
              "losses over clients only", "losses", "not compared")  # fmt: skip
    return table(header, rows)


def _seeds_caution(differences: Sequence[PairedDifference]) -> list[str]:
    """Say what the intervals cannot tell with so few seeds."""
    counts = {len(each.seed_means) for each in differences} - {0}
    if not counts:
        return []
    if max(counts) == 1:
        return ["One seed: the bootstrap interval is over clients only. It tells nothing about "
                "another seed, and there is no t interval.", ""]  # fmt: skip
    if min(counts) <= FEW_SEEDS:
        return [f"At most {max(counts)} seeds, and {min(counts)} in some rows: the part between "
                "seeds is weakly estimated."
                if min(counts) < max(counts)
                else f"{max(counts)} seeds: the part between seeds is weakly estimated.",
                ""]  # fmt: skip
    return []


def _difference_table(differences: Sequence[PairedDifference]) -> list[str]:
    rows = []
    for each in differences:
        stars = {"win": "**", "loss": "**", "tie": "", None: ""}.get(each.outcome, "*")
        points = ABSENT if each.mean is None else f"{each.mean:+.2f}"
        rows.append(
            [plain(each.baseline), points, f"`{stars}`" if stars else "", interval(each.bootstrap),
             interval(each.student), str(len(each.seed_means)), str(each.pairs),
             each.outcome or ABSENT]
        )  # fmt: skip
    header = ("baseline", "points", "", "bootstrap", "t over seeds", "seeds", "pairs", "outcome")
    return table(header, rows)

"""What ran, and in one sentence what came of it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import datetime

from feddag_flwr.report.json_values import items, mapping, number, numbers, texts
from feddag_flwr.report.reading import RoundFigures, RunRecord
from feddag_flwr.report.shown import NONE, counted, short

_STAMP = re.compile(r"(\d{8}-\d{6})-")
# Settings that say what ran, by what they are called here.
FACTS = {
    "algorithm": "algorithm",
    "dataset": "data",
    "scenario": "scenario",
    "modality": "modality",
    "model": "model",
    "participation": "share of clients a round",
    "seed": "seed",
}


def lead(run: RunRecord) -> str:
    """Say in one sentence what came of a run."""
    if run.summary is None:
        return _unfinished(run)
    summary, metric = run.summary, run.headline
    overall = mapping(summary.get("overall"))
    clusters = len(items(summary.get("clusters")))
    who = counted(len(run.assignments), "client")
    where = "with one model" if clusters == 1 else f"in {counted(clusters, 'cluster')}"
    rounds = counted(int(number(summary.get("rounds")) or 0), "round")
    value = number(overall.get(metric.name))
    parts = [f"After {rounds}, {who} {where} reach a mean {metric.title} of {metric.text(value)}"]
    if value is None:
        parts = [f"After {rounds} there are {who} {where}, and the mean {metric.title} is n/a"]
    spread = mapping(mapping(summary.get("spread")).get(metric.name))
    worst, client = number(spread.get("worst")), spread.get("worst-client")
    if worst is not None:
        parts[0] += f", the worst one ({short(str(client))}) {metric.text(worst)}"
    index = number(summary.get("adjusted-rand-index"))
    if index is not None:
        parts.append(
            f"the clusters match the true groups with an adjusted Rand index of {index:.3f}"
        )
    parts.append(_left_out(run))
    return "; ".join(parts) + "."


def _left_out(run: RunRecord) -> str:
    left_out = mapping((run.summary or {}).get("left-out"))
    names = {str(mapping(each).get("client")) for each in items(left_out.get("clients"))}
    parts = [counted(len(names), "client")] if names else []
    if files := numbers(left_out.get("files")):
        parts.append(counted(int(sum(files.values())), "file"))
    if columns := mapping(left_out.get("columns")):
        parts.append(f"columns of {counted(len(columns), 'client')}")
    if classes := texts(left_out.get("classes")):
        parts.append(f"{len(classes):,} {'class' if len(classes) == 1 else 'classes'}")
    return f"left out, at least once: {', '.join(parts)}" if parts else "nothing was left out"


def _unfinished(run: RunRecord) -> str:
    """Say how far a run is that has not ended."""
    of = "" if run.planned is None else f" of {run.planned:,}"
    told = f"The run has not ended: there is no summary.json, and {run.last_round:,}{of} rounds are"
    told += " over" if run.rounds else " over, for not even the profile is"
    judged = [each for each in run.rounds if run.headline.name in each.overall]
    if not judged:
        return f"{told}; all clients have not been judged yet."
    return f"{told}; after round {judged[-1].number:,} {_judged(run, judged[-1])}."


def _judged(run: RunRecord, each: RoundFigures) -> str:
    metric = run.headline
    told = f"the mean {metric.title} was {metric.text(each.overall.get(metric.name))}"
    return told if each.worst is None else f"{told}, the worst client's {metric.text(each.worst)}"


def facts(run: RunRecord) -> list[tuple[str, str]]:
    """Return what ran, as pairs of a word and what is known."""
    found = [("run folder", str(run.path))]
    for key, word in FACTS.items():
        if key in run.settings:
            found.append((word, short(str(run.settings[key]))))
    planned = NONE if run.planned is None else f"{run.planned:,}"
    done = max(run.last_round, int(number((run.summary or {}).get("rounds")) or 0))
    found.append(("rounds", f"{done:,} of {planned}"))
    clients = len(run.assignments) or run.settings.get("num-clients", NONE)
    found.append(("clients", str(clients)))
    clusters = next((r.clusters for r in reversed(run.rounds) if r.clusters is not None), None)
    found.append(("clusters", NONE if clusters is None else str(clusters)))
    found += _times(run)
    if run.seconds:
        parts = [s for times in run.seconds.values() for phase, s in times.items()
                 if phase not in {"aggregate", "judge"}]  # fmt: skip
        found.append(("seconds of all rounds", f"{sum(parts):,.1f}"))
    return found


def _times(run: RunRecord) -> Iterator[tuple[str, str]]:
    """Yield when the run started, went on and ended, and with which versions."""
    starts = [each for each in run.sessions if isinstance(each.get("started"), str)]
    ends = [each["ended"] for each in run.sessions if isinstance(each.get("ended"), str)]
    if starts:
        yield "started", short(starts[0]["started"])
    elif stamp := _STAMP.match(run.path.name):
        yield "started", f"{_readable(stamp[1])} (by the folder's name)"
    else:
        yield "started", NONE
    for each in starts[1:]:
        yield "went on", f"{short(each['started'])}, at round {each.get('first-round', NONE)}"
    yield "ended", short(ends[-1]) if ends and run.summary is not None else NONE
    known = mapping(starts[-1].get("versions")) if starts else {}
    told = ", ".join(f"{short(name)} {short(str(version))}" for name, version in known.items())
    yield "versions", told or f"{NONE}: not noted by this run"


def _readable(stamp: str) -> str:
    try:
        return datetime.strptime(stamp, "%Y%m%d-%H%M%S").isoformat(" ")
    except ValueError:
        return NONE


def more_sentences(run: RunRecord) -> list[str]:
    """Return what else a run says of itself: gains, held-out clients, the best round, privacy."""
    summary, metric = run.summary or {}, run.headline
    comparison = mapping(summary.get("comparison"))
    said = [comparison.get("gain"), comparison.get("sentence")]
    if held_out := mapping(summary.get("held-out")):
        value = metric.text(number(held_out.get(metric.name)))
        said.append(
            f"clients unseen in training: {held_out.get('clients', NONE)}; mean {metric.title} "
            f"{value}"
        )
    if validation := mapping(summary.get("validation")):
        said.append(
            f"best round on held-back data: {validation.get('best-round', NONE)}; kept: "
            f"{validation.get('kept', NONE)}"
        )
    said.append(mapping(summary.get("privacy")).get("promise"))
    return [short(each, 1000) for each in said if isinstance(each, str) and each]

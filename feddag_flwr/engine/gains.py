"""Which model is the best for which client, in figures and in a sentence."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import isfinite
from typing import Any

import numpy as np

from feddag_flwr.metrics import Metric

# Models that a client's figures are of: the run's own, one for all, the client's own.
CLUSTERED, ONE, ALONE = "clustered", "one-model", "alone"
# Where none of the others is worse than the run's, and none better.
SAME = "no-difference"
# What the run's own model is called, by what the run's algorithm stands for.
_TITLES = {"": "clustering", ONE: "one model for all", ALONE: "training alone"}
_INSTEAD = {ONE: "with one model for all", ALONE: "alone"}
# Most clients that a sentence names for one reason.
_NAMED = 5


@dataclass(frozen=True)
class Compared:
    """Figures of one metric by model and client; `CLUSTERED` and one other model at least.

    `stands_for` is what the run's own model is, where it is one of the others.
    """

    metric: Metric
    figures: Mapping[str, Mapping[str, float]]
    stands_for: str = ""

    @property
    def clients(self) -> list[str]:
        """Clients that have a figure of each model; in the order of names."""
        return sorted(
            name
            for name in self.figures[CLUSTERED]
            if all(isfinite(of.get(name, np.nan)) for of in self.figures.values())
        )

    def verdict(self, name: str) -> str:
        """Return the model that is strictly the best for a client.

        `SAME` where another does as well as the run's and none better. Of two others that are
        equally better it is the client's own, which needs nobody.
        """
        sign = 1 if self.metric.higher_is_better else -1
        others = {m: sign * of[name] for m, of in self.figures.items() if m != CLUSTERED}
        ours, best = sign * self.figures[CLUSTERED][name], max(others.values())
        if ours > best:
            return CLUSTERED
        if ours == best:
            return SAME
        return ALONE if others.get(ALONE) == best else ONE

    def summary(self, assignments: Mapping[str, int]) -> dict[str, Any]:
        """Return all of it for ``summary.json``."""
        clients = self.clients
        verdicts = {name: self.verdict(name) for name in clients}
        counts = Counter(verdicts.values())
        models = list(self.figures)
        by_client: dict[str, Any] = {}
        for name in sorted(self.figures[CLUSTERED]):
            values = {model: self.figures[model].get(name, np.nan) for model in models}
            shown = {model: value if isfinite(value) else None for model, value in values.items()}
            by_client[name] = {"cluster": assignments.get(name), **shown}
            by_client[name]["best"] = verdicts.get(name)
        return {
            "metric": self.metric.name,
            "sentence": self.sentence(verdicts),
            "gain": self.gain(),
            "counts": {model: counts[model] for model in [*models, SAME]},
            "mean": {model: self._mean(model) for model in models},
            "worst-client": {model: self._worst(model) for model in models},
            "10th-percentile": {model: self._tenth(model) for model in models},
            "not-compared": sorted(self.figures[CLUSTERED].keys() - set(clients)),
            "clients": by_client,
        }

    def sentence(self, verdicts: Mapping[str, str]) -> str:
        """Say for how many clients the run pays, and who would be better off how."""
        title, missing = _TITLES[self.stands_for], len(self.figures[CLUSTERED]) - len(verdicts)
        if not verdicts:
            return f"no client could be compared; not compared: {missing}"
        of = {verdict: [n for n, v in verdicts.items() if v == verdict] for verdict in
              (CLUSTERED, SAME, ALONE, ONE)}  # fmt: skip
        said = [f"{title} pays for {len(of[CLUSTERED])} of {len(verdicts)} clients"]
        if same := len(of[SAME]):
            said.append(f"{same} {'does' if same == 1 else 'do'} as well without")
        said += [
            f"{_enumerated(of[other])} would be better off {_INSTEAD[other]}"
            for other in (ALONE, ONE)
            if of[other]
        ]
        if missing:
            said.append(f"not compared: {missing}")
        return "; ".join(said)

    def gain(self) -> str:
        """Say in a line how far the run's models are ahead of one for all; empty where unknown."""
        if ONE not in self.figures or not self.clients:
            return ""
        ours, one = self._mean(CLUSTERED), self._mean(ONE)
        assert ours is not None and one is not None
        better = ours - one if self.metric.higher_is_better else one - ours
        verb, over = ("gained", "over") if better >= 0 else ("lost", "to")
        title, name = _TITLES[self.stands_for], self.metric.name.replace("-", " ")
        against = f"{over} one model for all"
        if self.metric.percent:
            figures = f"{100 * ours:.2f} % against {100 * one:.2f} %"
            return f"{title} {verb} {100 * abs(better):.2f} points of {name} {against}: {figures}"
        figures = f"{ours:.4g} against {one:.4g}"
        return f"{title} {verb} {abs(better):.4g} of {name} {against}: {figures}"

    def _values(self, model: str) -> list[float]:
        return [self.figures[model][name] for name in self.clients]

    def _mean(self, model: str) -> float | None:
        values = self._values(model)
        return float(np.mean(values)) if values else None

    def _worst(self, model: str) -> dict[str, Any] | None:
        """Return the client that does worst under a model, of equal ones the first by name."""
        if not self.clients:
            return None
        worst = min if self.metric.higher_is_better else max
        name = worst(self.clients, key=lambda each: self.figures[model][each])
        return {"client": name, "figure": self.figures[model][name]}

    def _tenth(self, model: str) -> float | None:
        """Return the figure that nine of ten clients reach, interpolated."""
        values = self._values(model)
        percentile = 10 if self.metric.higher_is_better else 90
        return float(np.percentile(values, percentile)) if values else None


def _enumerated(names: Iterable[str]) -> str:
    """Join names as a sentence does, a few at most."""
    listed = list(names)
    if len(listed) > _NAMED:
        listed = [*listed[:_NAMED], f"{len(listed) - _NAMED} more"]
    return " and ".join([", ".join(listed[:-1]), listed[-1]] if len(listed) > 1 else listed)

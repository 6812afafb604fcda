"""All settings of a run, those that differ from the default marked."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from feddag_flwr.report.reading import RunRecord
from feddag_flwr.report.shown import SENTENCE, short
from feddag_flwr.report.table import Cell, ReportTable
from feddag_flwr.settings import CATALOGUE, Settings, SettingsError, defaults


def settings_table(run: RunRecord) -> ReportTable | None:
    """Return a row a setting: in the order of docs/settings.md, those that differ marked."""
    if not run.settings:
        return None
    usual = _usual(run.settings)
    keys = [key for key in CATALOGUE if key in run.settings]
    keys += [key for key in run.settings if key not in CATALOGUE]
    rows = []
    differing = 0
    for key in keys:
        value, default = run.settings[key], usual.get(key)
        known = key in usual
        differs = not known or value != default
        differing += differs
        setting = CATALOGUE.get(key)
        rows.append(
            [
                Cell(short(key), marked=differs),
                Cell(short(_written(value), SENTENCE), marked=differs),
                Cell(_written(default) if known else "no setting of this version"),
                Cell("differs" if differs else "", marked=differs),
                Cell(setting.section if setting else ""),
                Cell(f"{setting.field.description}." if setting else ""),
            ]
        )
    columns = ["setting", "value", "default", "differs", "section", "meaning"]
    note = f"{differing:,} of {len(keys):,} differ from the default. Sort by “differs” to see them."
    return ReportTable(
        "settings", "Settings", columns, [False] * 6, rows, "Search settings", [note]
    )


def _usual(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the settings are where nothing is given but the algorithm and the preset."""
    chosen = {key: settings[key] for key in ("algorithm", "preset") if key in settings}
    try:
        found = Settings.from_run_config(chosen).to_run_config()
    except (SettingsError, ValueError):  # of an algorithm of the user's own, or of another version
        return dict(defaults())
    return {**found, **{key: defaults()[key] for key in chosen if key in defaults()}}


def _written(value: object) -> str:
    return value if isinstance(value, str) and value else json.dumps(value)

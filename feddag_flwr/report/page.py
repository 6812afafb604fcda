"""The page: its sections, put into the template, and the file."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from jinja2 import DictLoader, Environment, StrictUndefined

from feddag_flwr.report.classes import class_picture
from feddag_flwr.report.clients import client_table, cluster_table, sentences, teacher_rows
from feddag_flwr.report.commands import commands
from feddag_flwr.report.curves import curves
from feddag_flwr.report.drawing import style
from feddag_flwr.report.matrices import matrix_pictures, sweep_picture, tests_in_words
from feddag_flwr.report.overview import facts, lead, more_sentences
from feddag_flwr.report.reading import RunRecord, read_run
from feddag_flwr.report.settings_table import settings_table
from feddag_flwr.report.shown import plain, short
from feddag_flwr.report.templates import TEMPLATES
from feddag_flwr.run_folder import REPORT

logger = logging.getLogger("flwr")


def write_report(
    folder: Path, output: Path | None = None, summary: Mapping[str, Any] | None = None
) -> Path:
    """Write the report of a run folder; return where it is.

    Parameters
    ----------
    folder : Path
        A run folder, of a run that is over or not.
    output : Path, optional
        The file; left out: ``report.html`` in the folder. It appears whole or not at all.
    summary : mapping, optional
        What ``summary.json`` would hold, where no observer has written it.

    Raises
    ------
    ReportError
        It is no run folder.
    OSError
        The file cannot be written.
    """
    run = read_run(folder.expanduser().resolve())
    if summary is not None and run.summary is None:
        run = replace(run, summary=json.loads(json.dumps(summary)))
    path = run.path / REPORT if output is None else output
    content = render(run).encode("utf-8", "backslashreplace")
    partial = path.with_name(f"{path.name}.partial")
    partial.write_bytes(content)
    partial.replace(path)
    return path


def render(run: RunRecord) -> str:
    """Return the page. Of equal folders, in equal places, it is equal.

    A section that what is in the folder does not allow is left out, and the page says so.
    """
    faults = list(run.faults)

    def made(what: str, make: Callable[[RunRecord], object], otherwise: object) -> object:
        try:
            return make(run)
        except (ValueError, TypeError, LookupError, AttributeError, ArithmeticError) as error:
            logger.warning("report: %s: %s: %s", what, type(error).__name__, error)
            faults.append(f"Not shown, for the folder's files do not allow it: {what}.")
            return otherwise

    with style():
        values: dict[str, Any] = {
            "lead": made("the summary", lead, ""),
            "more": made("what else came of it", more_sentences, []),
            "facts": made("what ran", facts, []),
            "curves": made("curves", curves, []),
            "clusters": made("clusters", cluster_table, None),
            "teachers": made("teachers", teacher_rows, []),
            "matrices": made("matrices", matrix_pictures, []),
            "sweep": made("the threshold sweep", sweep_picture, None),
            "tests": made("the tests", tests_in_words, []),
            "classes": made("classes", class_picture, None),
            "clients": made("clients", client_table, None),
            "sentences": made("odd clients and failures", sentences, []),
            "settings": made("settings", settings_table, None),
            "commands": made("commands", commands, []),
        }
    return (
        _environment()
        .get_template("page")
        .render(title=short(run.path.name), ended=run.summary is not None, faults=faults, **values)
    )


def _environment() -> Environment:
    """Return what renders: all that is no SVG of this package's own is escaped."""
    return Environment(
        loader=DictLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=lambda value: plain(value) if type(value) is str else value,
        trim_blocks=True,
        lstrip_blocks=True,
    )

"""The table of bad inputs as a page: python -m bad_inputs.page > docs/bad-inputs.md."""

from collections.abc import Iterable

from bad_inputs.case import Case, Refused, Right

HEAD = """# Bad inputs

Data as people have it, and what comes of it. Each line is a test, at `check-data` and at the
node. Nothing ends in a traceback.

An input is used, or it is refused in one sentence that names the file, the row where there is one,
and the remedy. In quotes is what is said, in part.

| input | outcome |
|---|---|
"""


def page(cases: Iterable[Case]) -> str:
    """Write the table."""
    return HEAD + "\n".join(f"| {case.name} | {_outcome(case)} |" for case in cases) + "\n"


def _outcome(case: Case) -> str:
    words = _in_words(case.outcome)
    if case.settings.get("on-bad-file") == "refuse":
        words += ' with `on-bad-file = "refuse"`'
    return words if case.at_node is None else f"{words}; at the node {_in_words(case.at_node)}"


def _in_words(outcome: Right | Refused) -> str:
    kind = "refused" if isinstance(outcome, Refused) else "used"
    said = ", ".join(f'"{word}"' for word in outcome.says)
    return f"{kind}: {said}" if said else kind


if __name__ == "__main__":
    from bad_inputs import CASES

    print(page(CASES), end="")

"""What the demonstration says: a line as things happen, and a table at the end."""

from __future__ import annotations


class StepTable:
    """What was done, what came of it, and how long it took."""

    def __init__(self) -> None:
        self.rows: list[tuple[str, str, float]] = []

    def add(self, what: str, result: str, seconds: float) -> None:
        """Add a row, and say it at once."""
        self.rows.append((what, result, seconds))
        say(f"{what}{': ' * bool(what)}{result} ({seconds:.1f} s)")

    def text(self) -> str:
        """Return the table."""
        head = ("what was done", "what happened", "seconds")
        rows = [head, *((what, result, f"{seconds:.1f}") for what, result, seconds in self.rows)]
        widths = [max(len(row[column]) for row in rows) for column in range(3)]
        lines = [
            f"{what:<{widths[0]}}  {result:<{widths[1]}}  {seconds:>{widths[2]}}"
            for what, result, seconds in rows
        ]
        return "\n".join([lines[0], "-" * len(lines[0]), *lines[1:]])


def say(text: str) -> None:
    """Print a line of the demonstration's own."""
    print(f"docker-demo: {text}", flush=True)

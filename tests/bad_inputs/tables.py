"""Tables: CSV, ARFF and what is called so; a client's own and one of many clients."""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from bad_inputs.case import Case, Refused, Right

SETTINGS = {"modality": "tabular", "label-column": "sick"}


def rows(count=24, seed=1):
    """Return a header and rows of cells."""
    rng = np.random.default_rng(seed)
    cells = zip(
        rng.normal(50, 9, count).round(2).astype(str),
        rng.choice(["f", "m"], count),
        rng.normal(7, 1, count).round(3).astype(str),
        np.where(np.arange(count) % 2, "yes", "no"),
        strict=True,
    )
    return [["age", "sex", "acid", "sick"], *map(list, cells)]


def write(path: Path, cells: list[list[str]], separator: str = ",") -> Path:
    """Write cells as they are."""
    path.write_text("\n".join(separator.join(row) for row in cells), encoding="utf-8")
    return path


def table(change: Callable[[list[list[str]]], object] = lambda _: None, **options: str):
    """Write the table; `change` has its rows before, the header first: line n is rows[n - 1]."""

    def make(root: Path) -> Path:
        cells = rows()
        changed = change(cells)
        return write(root / "ward.csv", changed if isinstance(changed, list) else cells, **options)

    return make


def cell(line: int, column: int, value: str) -> Callable[[list[list[str]]], None]:
    """Change one cell; lines are counted from 1."""

    def change(cells: list[list[str]]) -> None:
        cells[line - 1][column] = value

    return change


def column(number: int, value: Callable[[int], str]) -> Callable[[list[list[str]]], None]:
    """Change a column below its name."""

    def change(cells: list[list[str]]) -> None:
        for place, row in enumerate(cells[1:]):
            row[number] = value(place)

    return change


def text(content: str | bytes, name: str = "ward.csv") -> Callable[[Path], Path]:
    """Write a file."""

    def make(root: Path) -> Path:
        (root / name).write_bytes(content if isinstance(content, bytes) else content.encode())
        return root / name

    return make


def parts(change: Callable[[list[list[str]]], object]) -> Callable[[Path], Path]:
    """Write a train file of 18 rows and a test file of 6, changed."""

    def make(root: Path) -> Path:
        cells = rows()
        test = [list(cells[0]), *cells[19:]]
        changed = change(test)
        write(root / "train.csv", cells[:19])
        write(root / "test.csv", changed if isinstance(changed, list) else test)
        return root

    return make


def arff(root: Path) -> Path:
    """Write the table as ARFF, its attribute of the label without a type."""
    cells = rows()
    head = ["@relation ward", *(f"@attribute {name} string" for name in cells[0][:-1])]
    lines = [*head, "@attribute sick", "@data", *(",".join(row) for row in cells[1:])]
    (root / "ward.arff").write_text("\n".join(lines))
    return root / "ward.arff"


def without(number: int) -> Callable[[list[list[str]]], list[list[str]]]:
    """Leave a column out."""
    return lambda cells: [row[:number] + row[number + 1 :] for row in cells]


TABLES = tuple(
    case._replace(name=f"table: {case.name}", settings={**SETTINGS, **case.settings})
    for case in (
        Case("good", table(), Right(("The data is good.",))),
        Case("semicolons", table(separator=";"), Right(("2 columns of numbers",))),
        Case("tabulators", table(separator="\t"), Right(("2 columns of numbers",))),
        Case(
            "byte order mark",
            table(cell(1, 0, "\ufeffage")),
            Right(("column age", "2 columns of numbers")),
        ),
        Case("ARFF", arff, Right(("2 columns of numbers",))),
        Case("empty file", text(""), Refused(("ward.csv: is empty", "a row of names"))),
        Case("no row", table(lambda cells: cells[:1]), Refused(("ward.csv", "but no row"))),
        Case(
            "no names",
            table(lambda cells: [["1", "2", "3", "4"], *cells[1:]]),
            Refused(("ward.csv: its first row is all numbers", "the names of the columns")),
        ),
        Case(
            "column without a name",
            table(cell(1, 2, "")),
            Refused(("ward.csv: column 3 is called ''", "give it a name")),
        ),
        Case(
            "column twice",
            table(cell(1, 2, "age")),
            Refused(("ward.csv: column 'age' is there twice", "rename one")),
        ),
        Case(
            "line too short",
            table(lambda cells: cells[6].pop()),
            Refused(("ward.csv: line 7 has 3 cells, but there are 4 columns", "mend the line")),
        ),
        Case(
            "line too long",
            table(lambda cells: cells[6].append("x")),
            Refused(("ward.csv: line 7 has 5 cells", "mend the line")),
        ),
        Case(
            "not UTF-8",
            text("age,sick\n1,\u00e4\n2,b\n".encode("latin-1")),
            Refused(("ward.csv: is not UTF-8", "save it as UTF-8")),
        ),
        Case(
            "UTF-16",
            text("age,sick\n1,a\n2,b\n".encode("utf-16")),
            Refused(("ward.csv", "UTF-8")),
        ),
        Case(
            "zero bytes",
            text(b"age,sick\n1,a\n\0\0\0"),
            Refused(("ward.csv: is no text, it holds zero bytes",)),
        ),
        Case(
            "spreadsheet",
            text(b"PK\3\4", "ward.xlsx"),
            Refused(("ward.xlsx", ".csv")),
            {"dataset": "table"},
        ),
        Case(
            "spreadsheet called CSV",
            text(b"PK\3\4\xff\xfe\0\0"),
            Refused(("ward.csv", "UTF-8")),
        ),
        Case(
            "no label column",
            table(cell(1, 3, "ill")),
            Refused(("ward.csv: no column 'sick' (setting label-column)", "'ill'")),
        ),
        Case(
            "label missing",
            table(cell(9, 3, "")),
            Refused(("ward.csv: column 'sick': line 9 of ward.csv has no label", "leave it out")),
        ),
        Case("labels are floats", table(column(3, lambda n: str(n % 2 / 1))), Right()),
        Case("labels do not begin at 0", table(column(3, lambda n: str(n % 2 + 7))), Right()),
        Case("labels with holes", table(column(3, lambda n: str(n % 2 * 50))), Right()),
        Case(
            "label renamed",
            table(column(3, lambda n: str(n % 4))),
            Right(("healthy",)),
            {"class-map": "0=healthy, 1=sick, 2=sick, 3=sick"},
        ),
        Case(
            "label that is not renamed",
            table(column(3, lambda n: str(n % 4))),
            Refused(("ward.csv: column 'sick'", "of line 4 of ward.csv", "class-map has")),
            {"class-map": "0=healthy, 1=sick"},
        ),
        Case(
            "label is a measurement",
            lambda root: write(
                root / "ward.csv", [["age", "sick"], *([str(n), f"{n / 7}"] for n in range(1200))]
            ),
            Refused(("ward.csv: column 'sick': 1,200 different labels", "1,000 at most")),
        ),
        Case("one row", table(lambda cells: cells[:2]), Refused(("ward.csv", "held out of 1"))),
        Case(
            "only the label",
            table(lambda cells: [row[3:] for row in cells]),
            Refused(("ward.csv: no column is left beside the label",)),
        ),
        Case("hole among numbers", table(cell(5, 0, "")), Right()),
        Case("hole called NaN", table(cell(5, 0, "NaN")), Right(("2 columns of numbers",))),
        Case("hole called ?", table(cell(5, 0, "?")), Right(("2 columns of numbers",))),
        Case(
            "empty column",
            table(column(0, lambda _: "")),
            Right(("more than half is empty", "age (100%)")),
        ),
        Case(
            "text among numbers",
            table(cell(5, 0, "fifty")),
            Refused(("ward.csv: line 5, column 'age'", "is no number", "leave it empty")),
        ),
        Case(
            "decimal comma",
            table(column(0, lambda n: f"{n},5"), separator=";"),
            Refused(("ward.csv: line 2, column 'age'", "decimal point")),
        ),
        Case(
            "infinite number",
            table(cell(5, 0, "inf")),
            Refused(("ward.csv: line 5, column 'age': is infinite", "leave it empty")),
        ),
        Case(
            "number too large",
            table(cell(5, 0, "1e200")),
            Refused(("ward.csv: line 5, column 'age': 1e+200", "leave it empty")),
        ),
        Case(
            "numbers of persons",
            table(column(0, lambda n: str(1000 + n))),
            Right(("numbers of persons", "drop-columns: age")),
        ),
        Case(
            "constant column", table(column(0, lambda _: "3")), Right(("one value only", "age"))
        ),
        Case(
            "category of too many levels",
            lambda root: write(
                root / "ward.csv", [["name", "sick"], *([f"p{n}", "no"] for n in range(1001))]
            ),
            Refused(("ward.csv: column 'name' has 1,001 different texts", "drop-columns")),
        ),
        Case(
            "category is a story",
            table(cell(5, 1, "x" * 300)),
            Refused(("ward.csv: column 'sex'", "is no name of a category", "drop-columns")),
        ),
        Case("rare level", table(cell(5, 1, "diverse")), Right(("sex = 'diverse'",))),
        Case("columns of the test part in another order", parts(lambda c: [r[::-1] for r in c]),
             Right(("The data is good.",))),
        Case(
            "column missing in the test part",
            parts(without(2)),
            Refused(("test.csv: column 'acid' is not in both it and", "the same columns")),
        ),
        Case("category unseen in training", parts(cell(3, 1, "diverse")), Right()),
        Case(
            "class only in test",
            parts(cell(3, 3, "perhaps")),
            Right(("cannot be learned here: perhaps",)),
        ),
        Case(
            "empty test part",
            parts(lambda cells: cells[:1]),
            Refused(("test.csv: has names of columns, but no row",)),
        ),
        Case(
            "row of the training part in the test part",
            parts(lambda cells: [cells[0], *rows()[5:6], *cells[1:]]),
            Right(("1 test row of 7 also in the training part", "line 6"), 25),
        ),
        Case(
            "column to drop that is not there",
            table(),
            Right(("drop-columns: no column 'pulse'",)),
            {"drop-columns": "pulse"},
        ),
        Case(
            "category that is not there",
            table(),
            Right(("categorical-columns: no column 'pulse'",)),
            {"categorical-columns": "pulse"},
        ),
    )
)  # fmt: skip

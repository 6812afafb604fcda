"""Tables and series in Parquet files, where pyarrow is there."""

import numpy as np
import pytest

from feddag_flwr.data.samples import DataError
from feddag_flwr.data.series_files import read_series
from feddag_flwr.data.tables import TableOptions, read_table
from feddag_flwr.modalities import load_modality
from feddag_flwr.modalities.series import lengths_of

pyarrow = pytest.importorskip("pyarrow")
SERIES = load_modality("series")


def write(path, **columns):
    from pyarrow import parquet

    parquet.write_table(pyarrow.table(columns), path)
    return path


def test_a_table(tmp_path):
    path = write(
        tmp_path / "a.parquet",
        age=[50, None, 70], sex=["f", None, "m"], weight=[1.5, 2.0, None], label=["x", "y", "x"],
    )  # fmt: skip
    parts = read_table(path, TableOptions())
    samples = parts.train.samples
    np.testing.assert_array_equal(samples["age"], [50, np.nan, 70])
    np.testing.assert_array_equal(samples["weight"], [1.5, 2.0, np.nan])
    assert samples["sex"].tolist() == ["f", "", "m"]
    assert parts.class_names == ("x", "y")


def test_series_of_their_own_lengths(tmp_path):
    path = write(
        tmp_path / "a.parquet", up=[[-1.0, -2.0], [-3.0]], back=[[1, 2], [3]], label=[1, 0]
    )
    parts = read_series(path, SERIES, TableOptions())
    assert lengths_of(parts.train.samples).tolist() == [2, 1]
    np.testing.assert_array_equal(parts.train.samples[0], [[1, -1], [2, -2]])  # by name
    assert parts.train.labels.tolist() == [1, 0]


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"up": [[1.0], []], "label": [0, 1]}, "row 1 has 0 steps in its channels"),
        ({"up": [[1.0], [2.0]], "back": [[1.0], [2.0, 3.0]], "label": [0, 1]}, "row 1 has 2, 1"),
        ({"up": [[1.0, None, 2.0]], "label": [0]}, "is NaN in series 0, step 1"),
        ({"up": [1.0, 2.0], "label": [0, 1]}, "no column of lists"),
    ],
)
def test_series_that_cannot_be(tmp_path, columns, message):
    with pytest.raises(DataError, match=message):
        read_series(write(tmp_path / "a.parquet", **columns), SERIES, TableOptions())


def test_a_broken_file_is_refused(tmp_path):
    (tmp_path / "a.parquet").write_bytes(b"PAR1 no more")
    with pytest.raises(DataError, match="not a readable Parquet file"):
        read_table(tmp_path / "a.parquet", TableOptions())

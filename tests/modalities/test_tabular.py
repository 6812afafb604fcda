"""Tables: columns agreed on, holes filled with the federation's means, categories one-hot."""

import json

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from memory_grid import quick_settings
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from feddag_flwr.data.samples import DataError, LabelledSamples
from feddag_flwr.modalities import ModalityError, SampleSpec, load_modality
from feddag_flwr.modalities.columns import MAX_LEVELS, Column, agreed_columns, columns_of, spec_of
from feddag_flwr.models.registry import build_model
from feddag_flwr.models.tabular import TabularEncoder
from feddag_flwr.simulation import run_in_process

TABULAR = load_modality("tabular")


def table(**columns):
    """Make a structured array of columns of floats, or of texts."""
    cells = {name: np.array(values) for name, values in columns.items()}
    made = np.empty(len(next(iter(cells.values()))), [(n, c.dtype) for n, c in cells.items()])
    for name, values in cells.items():
        made[name] = values
    return made


HERE = table(age=[50.0, np.nan, 70.0], sex=["f", "m", "f"])
THERE = table(sex=["m", "x"], age=[30.0, 40.0])


def agreed(*tables):
    return TABULAR.agreed([TABULAR.spec(each) for each in tables], np.ones(len(tables)))


def test_columns_are_matched_by_name_and_levels_are_those_of_all():
    spec = agreed(HERE, THERE)
    assert columns_of(spec) == (Column("age"), Column("sex", ("f", "m", "x")))
    assert spec.shape == (1 + 1 + 4,)
    # age, whether it is missing, then sex: unknown, f, m, x.
    np.testing.assert_array_equal(
        TABULAR.in_spec(THERE, spec), [[30, 0, 0, 0, 1, 0], [40, 0, 0, 0, 0, 1]]
    )
    np.testing.assert_array_equal(
        TABULAR.in_spec(HERE, spec),
        [[50, 0, 0, 1, 0, 0], [np.nan, 1, 0, 0, 1, 0], [70, 0, 0, 1, 0, 0]],
    )


def test_a_column_that_a_client_has_not_is_empty_there():
    spec = agreed(HERE, HERE, THERE[["age"]])
    np.testing.assert_array_equal(
        TABULAR.in_spec(THERE[["age"]], spec), [[30, 0, 1, 0, 0], [40, 0, 1, 0, 0]]
    )
    moments = TABULAR.moments(table(sex=["f"], weight=[3.0]))
    own = TABULAR.spec(table(sex=["f"], weight=[3.0]))
    assert TABULAR.moments_in(spec, own, moments) == ((0.0, 0.0, 0.0),)


def test_a_level_that_came_later_is_unknown():
    spec = agreed(HERE)
    late = TABULAR.in_spec(table(age=[1.0, 1.0], sex=["zz", ""]), spec)
    np.testing.assert_array_equal(late[:, 2:], [[1, 0, 0], [1, 0, 0]])


def test_codes_of_a_client_that_reads_them_as_numbers_are_understood():
    spec = agreed(table(cp=["1", "2"]), table(cp=["2", "3"]))
    rows = TABULAR.in_spec(table(cp=[3.0, np.nan, 1.0]), spec)
    assert rows.argmax(axis=1).tolist() == [3, 0, 1]


def test_a_column_that_is_empty_everywhere_has_no_say_in_its_kind():
    empty = table(ca=["", ""], age=[1.0, 2.0])
    spec = agreed(empty, empty, table(ca=[0.0, 1.0], age=[1.0, 2.0]))
    assert columns_of(spec) == (Column("age"), Column("ca"))
    assert np.isnan(TABULAR.in_spec(empty, spec)[:, 1]).all()


def test_scale_is_mean_and_deviation_of_all_cells_that_are_filled():
    rng = np.random.default_rng(1)
    clients = [rng.normal(size, 2.0 + size, (10 * size, 2)) for size in (1, 2, 3)]
    for cells in clients:
        cells[rng.random(cells.shape) < 0.3] = np.nan
    tables = [table(a=cells[:, 0], b=cells[:, 1], c=["x"] * len(cells)) for cells in clients]
    spec, counts = agreed(*tables), np.array([10, 20, 30])
    moments = [TABULAR.moments_in(spec, TABULAR.spec(t), TABULAR.moments(t)) for t in tables]
    for own, each in zip(tables, moments, strict=True):
        TABULAR.check_moments(TABULAR.spec(own), each)
    scale = TABULAR.scale(spec, moments, counts / counts.sum())
    TABULAR.check_scale(spec, scale)
    frame = pd.DataFrame(np.concatenate(clients))
    expected = np.stack([frame.mean(), frame.std(ddof=0)], axis=1)
    np.testing.assert_allclose(scale[:2], expected, rtol=1e-9)
    assert set(scale[2:]) == {(0.0, 1.0)}  # holes, and the levels
    # The same as scikit-learn's scaler and encoder, holes filled with the mean.
    whole = np.concatenate(tables)
    rows = TABULAR.subspace_matrix(TABULAR.in_spec(whole, spec), scale)
    values = StandardScaler().fit_transform(frame)
    np.testing.assert_allclose(rows[:, :2], np.nan_to_num(values), atol=1e-9)
    np.testing.assert_array_equal(rows[:, 2:4], frame.isna())
    encoder = OneHotEncoder(sparse_output=False).fit(whole["c"].reshape(-1, 1))
    np.testing.assert_array_equal(rows[:, 5:], encoder.transform(whole["c"].reshape(-1, 1)))


def test_inputs_of_a_model_are_the_scaled_and_filled_rows():
    spec = agreed(HERE)
    rows = TABULAR.in_spec(HERE, spec)
    scale = ((60.0, 10.0), *((0.0, 1.0),) * 4)
    data = LabelledSamples(rows, np.arange(3))
    inputs = TABULAR.to_device(torch.device("cpu"), data, scale).inputs(slice(None))
    assert inputs.tolist() == [[-1, 0, 0, 1, 0], [0, 1, 0, 0, 1], [1, 0, 0, 1, 0]]
    assert inputs.dtype == torch.float32


def test_a_constant_column_becomes_zero():
    spec = agreed(table(a=[5.0, 5.0]))
    scale = TABULAR.scale(spec, [TABULAR.moments(table(a=[5.0, 5.0]))], np.ones(1))
    assert scale[0] == (5.0, 1.0)


def test_a_column_that_nobody_fills_becomes_zero():
    empty = table(a=[np.nan, np.nan])
    spec = agreed(empty)
    scale = TABULAR.scale(spec, [TABULAR.moments(empty)], np.ones(1))
    assert TABULAR.subspace_matrix(TABULAR.in_spec(empty, spec), scale).tolist() == [[0, 1], [0, 1]]


def test_one_client_adds_no_column_and_decides_no_kind():
    honest = [(Column("a"), Column("b", ("x",)))] * 3
    liar = (Column("a", ("1",)), Column("b"), Column("mine"))
    assert agreed_columns([*honest, liar]) == (Column("a"), Column("b", ("x",)))


def test_one_client_crowds_out_no_level_that_two_have():
    flood = tuple(sorted(f"0{number}" for number in range(MAX_LEVELS)))
    found = agreed_columns([[Column("a", levels)] for levels in (("x", "y"), ("x", "y"), flood)])
    assert len(found[0].levels) == MAX_LEVELS
    assert {"x", "y"} <= set(found[0].levels)


@given(
    st.lists(
        st.dictionaries(
            st.sampled_from("abc"), st.none() | st.sets(st.sampled_from("xyz")), min_size=1
        ),
        min_size=1,
        max_size=5,
    )
)
def test_what_is_agreed_does_not_depend_on_the_order_of_clients_or_columns(tables):
    columns = [
        [Column(n, None if v is None else tuple(sorted(v))) for n, v in each.items()]
        for each in tables
    ]
    turned = [list(reversed(each)) for each in reversed(columns)]
    assert agreed_columns(columns) == agreed_columns(turned)


def test_texts_where_the_federation_has_numbers_are_refused():
    own, spec = TABULAR.spec(table(age=["old", ""])), agreed(HERE)
    with pytest.raises(ModalityError, match="column 'age' holds texts such as 'old', the federat"):
        TABULAR.check_fit(own, spec)


def test_a_table_without_any_of_the_columns_is_refused():
    own = TABULAR.spec(table(Alter=[1.0]))
    with pytest.raises(ModalityError, match="none of the federation's columns, 'age', 'sex'; it"):
        TABULAR.check_fit(own, agreed(HERE))


@pytest.mark.parametrize(
    "moments",
    [
        ((0.5, 1.0, 1.0),),  # (n m)^2 > n s
        ((1.5, 1.0, 1.0),),
        ((-0.1, 0.0, 0.0),),
        ((0.0, 1.0, 1.0),),  # numbers where nothing is
        ((1.0, 0.0, -1.0),),
        ((1.0, 0.0),),
        (),
    ],
)
def test_moments_of_no_numbers_are_refused(moments):
    with pytest.raises(ModalityError):
        TABULAR.check_moments(TABULAR.spec(HERE), moments)


@pytest.mark.parametrize(
    ("shape", "details"),
    [
        ((2,), ""),
        ((2,), "[" * 100_000),
        ((2,), "{}"),
        ((2,), "[]"),
        ((2,), '["a"]'),
        ((2,), '[["a", 3]]'),
        ((3,), '[["a", null]]'),  # becomes two numbers
        ((4,), '[["a", null], ["a", null]]'),
        ((3,), '[["a", ["y", "x"]]]'),
        ((3,), '[["a", ["x", "x"]]]'),
        ((2,), '[["a", [""]]]'),
        ((2,), json.dumps([["a", ["x" * 201]]])),
        ((1002,), json.dumps([["a", sorted(map(str, range(1001)))]])),
    ],
)
def test_nonsense_about_columns_is_refused(shape, details):
    with pytest.raises(ModalityError):
        TABULAR.check(SampleSpec(shape, details))


def test_a_spec_survives_the_wire():
    spec = spec_of([Column('naïve, "x"', ("ä", "ö")), Column("n")])
    TABULAR.check(spec)
    assert columns_of(SampleSpec(spec.shape, spec.details))[0].levels == ("ä", "ö")


def test_numbers_without_names_are_named_and_infinite_ones_refused():
    made = TABULAR.accept(np.array([[1, 2], [3, 4]]), "a.npz: 'features'")
    assert made.dtype.names == ("0", "1")
    assert made["1"].tolist() == [2.0, 4.0]
    with pytest.raises(DataError, match=r"a.npz: 'features': row 1, column 0 .* is infinite"):
        TABULAR.accept(np.array([[1.0], [-np.inf]]), "a.npz: 'features'")
    with pytest.raises(DataError, match="expected numbers of shape"):
        TABULAR.accept(np.zeros((2, 3, 4)), "a.npz: 'features'")


def test_the_model_embeds_categories():
    encoder = TabularEncoder(2, [5, 3])
    assert [layer.weight.shape for layer in encoder.embeddings] == [(2, 5), (1, 3)]
    rows = torch.zeros(1, 10)
    rows[0, 2 + 4] = 1.0  # the last of five levels
    rows[0, 2 + 5] = 1.0
    by_hand = torch.cat(
        [torch.zeros(2), encoder.embeddings[0].weight[:, 4], encoder.embeddings[1].weight[:, 0]]
    )
    torch.testing.assert_close(encoder(rows)[0], encoder.layers(by_hand[None])[0])


@pytest.mark.parametrize("model", ["auto", "mlp", "linear"])
def test_models_of_tables(model):
    spec = agreed(HERE, THERE)
    made = build_model(
        model, spec.shape, 2, dual=True, seed=1, modality="tabular", details=spec.details
    )
    assert made(torch.zeros(3, *spec.shape)).shape == (3, 2)


def write_hospitals(folder, clients=12, rows=60):
    """Two kinds of hospitals: what one calls ill, the other calls well; a tenth of cells empty."""
    for number in range(clients):
        rng = np.random.default_rng(number)
        sick = rng.random(rows) < 0.5
        frame = pd.DataFrame(
            {
                "pressure": rng.normal(np.where(sick, 150, 110), 8).round(1),
                "ward": rng.choice(["a", "b", f"only-{number}"], rows),
                "colour": np.where(sick ^ (rng.random(rows) < 0.1), "red", "blue"),
            }
        )
        if number == 1:
            frame = frame.drop(columns="ward")
        frame = frame.mask(rng.random(frame.shape) < 0.1)
        frame["outcome"] = np.where(sick ^ (number % 2 == 1), "ill", "well")
        order = rng.permutation(frame.columns)
        frame[order].to_csv(folder / f"hospital-{number:02d}.csv", index=False)


def test_feddag_finds_the_groups_of_hospitals(tmp_path):
    write_hospitals(tmp_path)
    folder = run_in_process(
        quick_settings(
            dataset="table", scenario="own", modality="tabular", data_dir=str(tmp_path),
            label_column="outcome", num_clients=12, run_dir=str(tmp_path / "runs"), client_groups=1,
            num_rounds=2, local_epochs=5, learning_rate=0.1, batch_size=16, participation=0.5,
        )
    )  # fmt: skip
    state = json.loads((sorted(folder.glob("checkpoints/round-*"))[-1] / "state.json").read_text())
    columns = dict(json.loads(state["sample-details"]))
    assert set(columns) == {"pressure", "ward", "colour"}
    assert columns["pressure"] is None
    assert {"a", "b", "only-0", "only-11"} <= set(columns["ward"])
    clusters = [state["assignments"][f"hospital-{number:02d}"] for number in range(12)]
    assert len(set(clusters[::2])) == len(set(clusters[1::2])) == 1
    assert clusters[0] != clusters[1]
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["overall"]["balanced-accuracy"] > 0.9  # chance: 0.5

import pytest

from feddag_lab.experiments.published import Published, _tables, published_figures, title_of


def test_figures_of_the_paper():
    figures = published_figures("table_10/label_skew_30/fmnist")
    assert figures["FedDAG"] == Published(98.36, 0.10)
    assert figures["FedAvg"] == (77.17, 0.24)
    assert list(figures)[:3] == ["FedAvg", "FedProx", "PerFedAvg"]
    assert published_figures("table_2/svhn")["FedDAG*"] == (83.73, 0.19)
    assert published_figures("table_3/cifar100")["FedDAG-dagger"] == (70.28, 0.38)
    assert published_figures("table_5/alpha_0.25/fmnist")["IFCA"] == (87.53, 0.21)


@pytest.mark.parametrize(
    "path",
    ["", "table_10", "table_10/fmnist", "table_99/fmnist", "table_10/label_skew_30/mnist",
     "table_10/label_skew_30/fmnist/FedDAG", "table_19/alpha"],
)  # fmt: skip
def test_paths_that_lead_nowhere(path):
    with pytest.raises(KeyError, match="no published figures"):
        published_figures(path)


def leaves(part):
    if "columns" in part:
        yield part
    else:
        for below in part.values():
            yield from leaves(below)


def test_every_row_has_a_mean_and_a_deviation_for_every_column():
    parts = [part for part in leaves(_tables()) if "rows" not in part]
    assert len(parts) == 15
    for part in parts:
        for name, row in part.items():
            if name != "columns":
                assert len(row) == len(part["columns"]), name
                assert all(0 < mean < 100 and 0 < deviation < 2 for mean, deviation in row), name


def test_titles():
    assert title_of("table_10/label_skew_30/fmnist") == "Table 10, label skew 30 %, fmnist"
    assert title_of("table_2/fmnist") == "Table 2, fmnist"
    assert title_of("table_5/alpha_0.25/svhn") == "Table 5, alpha 0.25, svhn"
    assert title_of("table_11/tiny_imagenet_c") == "Table 11, tiny_imagenet_c"

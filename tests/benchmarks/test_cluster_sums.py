"""How many of a cluster are drawn, against all draws that there are."""

from itertools import combinations

import numpy as np
import pytest
from cluster_sums import Federation, main


def test_chances_are_those_of_all_draws():
    federation = Federation(clients=8, cluster=3, participation=0.5)
    members = [sum(client < 3 for client in drawn) for drawn in combinations(range(8), 4)]
    counted = np.bincount(members, minlength=4) / len(members)
    np.testing.assert_allclose(federation.chances(), counted)
    np.testing.assert_allclose(federation.of_sums(), counted[1:] / counted[1:].sum())


def test_by_default_three_sums_in_four_are_of_one_member():
    """C(16, 3) * 4 / C(20, 4) of one member, 1 - C(16, 4) / C(20, 4) of any."""
    assert Federation(20, 4, 0.2).of_sums()[0] == pytest.approx(560 * 4 / (4845 - 1820))


def test_the_table_is_printed(capsys):
    main()
    assert "74.0%" in capsys.readouterr().out

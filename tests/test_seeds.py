from hypothesis import given
from hypothesis import strategies as st

from feddag_flwr.seeds import derived_seed, generator


def test_a_generator_is_the_same_each_time():
    draw = generator(7, "sample-clients", server_round=3).integers(1000, size=5)
    assert (draw == generator(7, "sample-clients", server_round=3).integers(1000, size=5)).all()


@given(st.integers(0, 2**31), st.text(max_size=5), st.integers(0, 9), st.text(max_size=5))
def test_seeds_fit_numpy_and_torch(seed, purpose, server_round, client):
    assert 0 <= derived_seed(seed, purpose, server_round=server_round, client=client) < 2**63


def test_each_ingredient_matters():
    seeds = {
        derived_seed(1, "a"),
        derived_seed(2, "a"),
        derived_seed(1, "b"),
        derived_seed(1, "a", server_round=1),
        derived_seed(1, "a", client="1"),
        # The ingredients are kept apart: not one string that could be cut elsewhere.
        derived_seed(1, "a", client="b"),
        derived_seed(1, "ab"),
    }
    assert len(seeds) == 7

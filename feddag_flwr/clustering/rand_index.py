"""How well clusters match true groups, where an experiment knows them."""

from collections.abc import Mapping

from sklearn.metrics import adjusted_rand_score


def adjusted_rand_index(
    assignments: Mapping[str, int], true_groups: Mapping[str, int]
) -> float | None:
    """Agreement of clusters and true groups over the clients that have both; None without any."""
    names = sorted(set(assignments) & set(true_groups))
    if not names:
        return None
    return float(
        adjusted_rand_score([true_groups[n] for n in names], [assignments[n] for n in names])
    )

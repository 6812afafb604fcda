"""How many members a sum of a cluster's updates has: what a masked sum could hide.

A round draws clients without replacement from all, so that a cluster's number of participants is
hypergeometric. No run is made; the numbers are exact:

    python benchmarks/cluster_sums.py
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from rich.console import Console
from rich.table import Table
from scipy.stats import hypergeom


@dataclass(frozen=True)
class Federation:
    """So many clients in clusters of one size, a share of whom trains in a round."""

    clients: int
    cluster: int
    participation: float

    @property
    def drawn(self) -> int:
        """Clients of a round, as `Algorithm.sample_clients` counts them."""
        return max(1, round(self.participation * self.clients))

    def chances(self) -> npt.NDArray[np.float64]:
        """Chance that 0, 1, .. members of a cluster are drawn; shape (cluster + 1,)."""
        members = np.arange(self.cluster + 1)
        chances: npt.NDArray[np.float64] = hypergeom.pmf(
            members, self.clients, self.cluster, self.drawn
        )
        return chances

    def of_sums(self) -> npt.NDArray[np.float64]:
        """Share of the sums that have 1, 2, .. members; a cluster without any makes no sum."""
        chances = self.chances()
        shares: npt.NDArray[np.float64] = chances[1:] / chances[1:].sum()
        return shares


FEDERATIONS = (
    Federation(20, 4, 0.2),  # the default settings, five clusters
    Federation(100, 20, 0.2),  # the suites, five clusters
    Federation(100, 9, 0.2),  # eleven clusters
    Federation(20, 4, 1.0),
    Federation(4, 2, 1.0),  # four hospitals in two clusters
)


def table() -> Table:
    """Lay out all of them."""
    made = Table(title="Members of a cluster's sum in a round")
    for column in ("clients", "a cluster", "drawn", "no sum", "1 member", "2 members",
                   "3 and more", "members, mean"):  # fmt: skip
        made.add_column(column)
    for each in FEDERATIONS:
        shares = each.of_sums()
        mean = float(shares @ np.arange(1, len(shares) + 1))
        made.add_row(
            str(each.clients),
            str(each.cluster),
            str(each.drawn),
            *(
                f"{share:.1%}"
                for share in (each.chances()[0], shares[0], shares[1], shares[2:].sum())
            ),
            f"{mean:.2f}",
        )
    return made


def main() -> None:
    """Print the table."""
    Console(width=120).print(table())


if __name__ == "__main__":
    main()

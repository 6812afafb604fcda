"""The algorithms that the setting ``algorithm`` names: one line each, and nothing else to register.

A line says where the strategy is and what the algorithm is called; the module is imported when a
run asks for it.
"""

from __future__ import annotations

from typing import NamedTuple


class Algorithm(NamedTuple):
    """Where a strategy is, and its name in the literature.

    Attributes
    ----------
    module : str
        Module below ``feddag_flwr.strategies``.
    strategy : str
        The class in it.
    title : str
        Name and source.
    """

    module: str
    strategy: str
    title: str


ALGORITHMS: dict[str, Algorithm] = {
    "feddag": Algorithm("feddag", "FedDAG", "FedDAG (arXiv 2602.23504)"),
    "fedavg": Algorithm("fedavg", "FedAvg", "FedAvg (McMahan et al. 2017)"),
    "local": Algorithm("local", "LocalOnly", "every client by itself"),
    "oracle": Algorithm("oracle", "Oracle", "FedAvg within the true groups"),
    "fedprox": Algorithm("fedprox", "FedProx", "FedProx (Li et al. 2020)"),
    "per-fedavg": Algorithm("per_fedavg", "PerFedAvg", "Per-FedAvg (Fallah et al. 2020)"),
    "pacfl": Algorithm("pacfl", "PACFL", "PACFL (Vahidian et al. 2023)"),
    "ifca": Algorithm("ifca", "IFCA", "IFCA (Ghosh et al. 2020)"),
    "cfl": Algorithm("cfl", "CFL", "CFL (Sattler et al. 2020)"),
    "cfl-gp": Algorithm("cfl_gp", "CFLGP", "CFL-GP (Kim et al. 2024)"),
    "fedsoft": Algorithm("fedsoft", "FedSoft", "FedSoft (Ruan & Joe-Wong 2022)"),
    "fedrc": Algorithm("fedrc", "FedRC", "FedRC (Guo et al. 2024)"),
    "fedgwc": Algorithm("fedgwc", "FedGWC", "FedGWC (Licciardi et al. 2025)"),
}

"""The algorithms that the setting ``algorithm`` names: one line each, and nothing else to register.

A line says what the algorithm is called; its server half is the class ``server:CLASS`` in its
folder, imported when a run asks for it. ``package.module:Class`` names one of the user's own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from feddag_flwr.registry import Registry

if TYPE_CHECKING:
    from feddag_flwr.algorithms.algorithm import Algorithm


class Entry(NamedTuple):
    """Where an algorithm's server half is, and its name in the literature.

    Attributes
    ----------
    server : str
        Folder and class.
    title : str
        Name and source.
    settings : str
        File and class of its own settings, in its folder; empty: it has none.
    stands_for : str
        Which of the models that runs are compared with (setting ``compare``) it trains itself:
        ``one-model``, ``alone``, or neither.
    candidates : bool
        Whether it sends the models of all clusters in one message, which carries only so many.
    """

    server: str
    title: str
    settings: str = ""
    stands_for: str = ""
    candidates: bool = False


ALGORITHMS: dict[str, Entry] = {
    "feddag": Entry("feddag.server:FedDAG", "FedDAG (arXiv 2602.23504)"),
    "fedavg": Entry("fedavg.server:FedAvg", "FedAvg (McMahan et al. 2017)", stands_for="one-model"),
    "local": Entry("local.server:LocalOnly", "every client by itself", stands_for="alone"),
    "oracle": Entry("oracle.server:Oracle", "FedAvg within the true groups"),
    "fedprox": Entry(
        "fedprox.server:FedProx", "FedProx (Li et al. 2020)", "fedprox.settings:FedProxSettings"
    ),
    "per-fedavg": Entry(
        "per_fedavg.server:PerFedAvg",
        "Per-FedAvg (Fallah et al. 2020)",
        "per_fedavg.settings:PerFedAvgSettings",
    ),
    "ditto": Entry("ditto.server:Ditto", "Ditto (Li et al. 2021)", "ditto.settings:DittoSettings"),
    "pacfl": Entry(
        "pacfl.server:PACFL", "PACFL (Vahidian et al. 2023)", "pacfl.settings:PACFLSettings"
    ),
    "ifca": Entry("ifca.server:IFCA", "IFCA (Ghosh et al. 2020)", candidates=True),
    "cfl": Entry("cfl.server:CFL", "CFL (Sattler et al. 2020)", "cfl.settings:CFLSettings"),
    "cfl-gp": Entry(
        "cfl_gp.server:CFLGP", "CFL-GP (Kim et al. 2024)", "cfl_gp.settings:CFLGPSettings"
    ),
    "fedsoft": Entry(
        "fedsoft.server:FedSoft",
        "FedSoft (Ruan & Joe-Wong 2022)",
        "fedsoft.settings:FedSoftSettings",
        candidates=True,
    ),
    "fedrc": Entry("fedrc.server:FedRC", "FedRC (Guo et al. 2024)", candidates=True),
    "fedgwc": Entry(
        "fedgwc.server:FedGWC", "FedGWC (Licciardi et al. 2025)", "fedgwc.settings:FedGWCSettings"
    ),
}

_SERVERS: Registry[Algorithm] = Registry(
    "algorithm",
    {name: f"feddag_flwr.algorithms.{entry.server}" for name, entry in ALGORITHMS.items()},
    ["begin", "plan_round", "update", "own_settings"],
)


def check_algorithm(name: str) -> str:
    """Return the name of an algorithm, of this list or of the user's own.

    Raises
    ------
    RegistryError
        It is neither.
    """
    return _SERVERS.check(name)


def algorithm_class(name: str) -> type[Algorithm]:
    """Return an algorithm's server half.

    Raises
    ------
    RegistryError
        There is none of that name.
    """
    return _SERVERS.load_class(name)

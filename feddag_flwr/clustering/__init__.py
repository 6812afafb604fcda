"""Phases 3 and 4: which clients train together, and which clusters learn from which (Sec. 3.4, 4).

`threshold` sweeps the thresholds (Eq. 9, 10), `selection` chooses alpha*, `complementarity` makes
the graph of sources (Eq. 11 to 14). Pure NumPy and SciPy, as is `feddag_flwr.similarity`.
"""

from feddag_flwr.clustering.complementarity import Complementarity, complementarity
from feddag_flwr.clustering.labels import canonical_labels
from feddag_flwr.clustering.selection import Row, Score, choose, scores
from feddag_flwr.clustering.threshold import Candidate, Loss, clustering_loss, sweep

__all__ = [
    "Candidate",
    "Complementarity",
    "Loss",
    "Row",
    "Score",
    "canonical_labels",
    "choose",
    "clustering_loss",
    "complementarity",
    "scores",
    "sweep",
]

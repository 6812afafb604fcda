"""Phase 2: how unlike the clients are, in their gradients and their data (Sec. 3.1 to 3.3).

`gradient` has Eq. 3, `subspace` Eq. 4 to 6 and 23, `normalisation` and `fusion` Eq. 7 and 8. Pure
NumPy and SciPy: nothing here knows of the network or of the training.
"""

from feddag_flwr.similarity.fusion import fuse, learn_fusion_weights, mean_row_entropy
from feddag_flwr.similarity.gradient import gradient_dissimilarity
from feddag_flwr.similarity.normalisation import Normalised, Scale, normalise
from feddag_flwr.similarity.subspace import class_angles, data_dissimilarity, frequency_weights

__all__ = [
    "Normalised",
    "Scale",
    "class_angles",
    "data_dissimilarity",
    "frequency_weights",
    "fuse",
    "gradient_dissimilarity",
    "learn_fusion_weights",
    "mean_row_entropy",
    "normalise",
]

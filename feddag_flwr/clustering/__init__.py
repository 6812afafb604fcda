"""Phases 3 and 4: which clients train together, and which clusters learn from which (Sec. 3.4, 4).

`threshold` sweeps the thresholds (Eq. 9, 10), `selection` chooses alpha*, `complementarity` makes
the graph of teachers (Eq. 11 to 14). Pure NumPy and SciPy, as is `feddag_flwr.similarity`; an
argument outside of its domain raises `ValueError`.
"""

"""Phase 2: how unlike the clients are, in their gradients and their data (Sec. 3.1 to 3.3).

`gradient` has Eq. 3, `subspace` Eq. 4 to 6 and 23, `normalisation` and `fusion` Eq. 7 and 8 of
arXiv 2602.23504, `drift` Eq. 41. Pure NumPy and SciPy: nothing here knows of the network or of
training. N clients, C classes; angles are in degrees; an argument outside of its domain raises
`ValueError`. Nothing is imported here, for a client imports `drift` with every message.
"""

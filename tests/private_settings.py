"""Settings of a run with private profiles."""

PRIVATE = {
    "profile_epsilon": 3.0,
    "initialisation": "random",
    "secondary_start": "random",
    "standardise": False,
    "drift_threshold": 0.0,
}

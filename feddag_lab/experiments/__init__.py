"""Experiments: suites of runs, their running side by side, and the tables made of the results."""

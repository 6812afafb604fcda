"""The laboratory: suites of experiments, demonstrations and measuring tools of `feddag_flwr`."""

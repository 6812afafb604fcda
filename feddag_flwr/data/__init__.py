"""Data of the clients: sources of images and the scenarios that split them."""

from feddag_flwr.data.samples import DataError, LabelledSamples, Source
from feddag_flwr.data.scenarios import ClientData, load_client_data
from feddag_flwr.data.sources import load_source

__all__ = [
    "ClientData",
    "DataError",
    "LabelledSamples",
    "Source",
    "load_client_data",
    "load_source",
]

"""What happens to updates between training and aggregation (setting ``postprocessors``)."""

from feddag_flwr.postprocessors.postprocessor import ClientContext, Postprocessor

__all__ = ["ClientContext", "Postprocessor"]

"""Inputs as people have them, each with the outcome that is right."""

from bad_inputs.arrays import ARRAYS
from bad_inputs.case import Case, Refused, Right
from bad_inputs.images import IMAGES
from bad_inputs.tables import TABLES

CASES = (*IMAGES, *TABLES, *ARRAYS)

__all__ = ["CASES", "Case", "Refused", "Right"]

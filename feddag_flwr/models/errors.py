"""What is wrong with the setting ``model``, or with what it makes."""


class ModelError(ValueError):
    """The setting ``model`` names nothing that can be used."""


class ImageShapeError(ModelError):
    """The encoder cannot be made for samples of this shape, or fails on them."""

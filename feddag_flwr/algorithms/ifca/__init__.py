"""IFCA : every client trains the model that fits it best."""

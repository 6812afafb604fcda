"""A federation in containers, with a node and the SuperLink killed on the way."""

"""Image files of any size and format, brought to the one form that a federation has."""

"""Data of the clients: data sets and the scenarios that split them."""

"""The run of a federation: a Flower strategy made of registration, rounds, joins and evaluation."""

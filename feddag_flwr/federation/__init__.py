"""The clients of a federation: who they are, how they are asked, what an algorithm sees of them."""

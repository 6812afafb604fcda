"""What a client computes: the profile (phase 1), local training (phase 5) and evaluation."""

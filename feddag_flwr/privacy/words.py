"""What a private profile promises, in words."""

COVERED = "each client's profile, for one training sample more or less"
NOT_COVERED = "what training sends (weights, numbers of samples, counts of right answers)"


def promise(epsilon: float, delta: float) -> str:
    """Say what is covered, and what is not."""
    return (
        f"epsilon {epsilon:.3g} at delta {delta:g} covers {COVERED}; it does not cover "
        f"{NOT_COVERED}"
    )

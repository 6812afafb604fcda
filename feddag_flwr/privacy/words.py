"""What private profiles and private training promise, in words."""


def promise(epsilon: float, delta: float, *, profile: bool = True, training: bool = False) -> str:
    """Say what is covered, and what is not."""
    what = " and ".join(["profile"] * profile + ["training"] * training)
    if training:
        not_covered = "what is told of the test part (counts of right answers, losses)"
    else:
        not_covered = "what training sends (weights, numbers of samples, counts of right answers)"
    return (
        f"epsilon {epsilon:.3g} at delta {delta:g} covers each client's {what}, for one training "
        f"sample more or less; it does not cover {not_covered}"
    )

"""What docs/secure-aggregation.md says of the installed Flower."""

import numpy as np
import pytest
from flwr import clientapp
from flwr.app import Context, RecordDict
from flwr.clientapp import mod as message_mods
from flwr.common.secure_aggregation.secaggplus_utils import pseudo_rand_gen
from flwr.server.workflow import SecAggPlusWorkflow


def test_masks_have_a_seed_of_32_bits():
    seed = bytes(range(32))
    folded = np.frombuffer(seed, "<u4")
    short = int(np.bitwise_xor.reduce(folded)).to_bytes(4, "little")
    masks = [pseudo_rand_gen(each, 2**32, [(50,)])[0] for each in (seed, short)]
    np.testing.assert_array_equal(*masks)
    swapped = seed[4:8] + seed[:4] + seed[8:]  # another key of 256 bits, the same mask
    np.testing.assert_array_equal(pseudo_rand_gen(swapped, 2**32, [(50,)])[0], masks[0])


def test_the_masks_of_two_members_are_found_by_trying_seeds():
    """Here among 2,000 seeds; all 2^32 take as many times longer as there are more of them."""
    secret = 1_234
    update = np.array([3, 1, 4, 1, 5])  # quantised: far fewer than 2^22 levels are used
    sent = (update + pseudo_rand_gen(secret.to_bytes(4, "little"), 2**32, [(5,)])[0]) % 2**32
    fits = [
        seed
        for seed in range(2_000)
        if ((sent - pseudo_rand_gen(seed.to_bytes(4, "little"), 2**32, [(5,)])[0]) % 2**32 < 2**22)
        .all()
    ]  # fmt: skip
    assert fits == [secret]


def test_masked_numbers_take_eight_bytes():
    assert pseudo_rand_gen(bytes(4), 2**32, [(5,)])[0].dtype == np.int64


def test_the_workflow_is_of_the_older_interface():
    workflow = SecAggPlusWorkflow(3, 2)
    with pytest.raises(TypeError, match="LegacyContext"):
        workflow(None, Context(1, 1, {}, RecordDict(), {}))
    assert not any("secagg" in name for name in (*message_mods.__all__, *clientapp.__all__))


def test_two_shares_are_refused():
    with pytest.raises(ValueError, match="greater than 2"):
        SecAggPlusWorkflow(2, 1)

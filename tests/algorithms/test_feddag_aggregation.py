"""Who trains which part, when, and how updates become one."""

import pytest
from feddag_bench import NOTHING, set_settings, weights

from feddag_flwr.records import TrainReply
from feddag_flwr.settings import Settings

pytestmark = pytest.mark.integration


def test_a_source_receives_the_mean_of_its_learners_secondary_encoders(three_clusters):
    # Learners of 2 are 0 and 1: (10 + 20) / 2; the only learner of 0 is 2; nobody learns from 1.
    both = ("primary", "secondary")
    three_clusters.before_round(1, [])
    sent = {name: three_clusters.train_request(1, name) for name in "abc"}
    assert sent["c"].parts["transfer"].floats.tolist() == [15]
    assert sent["a"].parts["transfer"].floats.tolist() == [30]
    assert "transfer" not in sent["b"].parts
    assert sent["c"].phases == both
    assert sent["b"].phases == ("primary",)


def test_primary_and_secondary_aggregation_by_hand(three_clusters):
    replies = {
        # c and d of cluster 2: P (1 * 4 + 3 * 8) / 4 = 7; S' (1 * 16 + 3 * 20) / 4 = 19
        "c": TrainReply(
            1,
            {"primary": weights(4), "classifier": weights(1), "transfer": weights(16)},
            {},
            NOTHING,
        ),
        "d": TrainReply(
            3,
            {"primary": weights(8), "classifier": weights(1), "transfer": weights(20)},
            {},
            NOTHING,
        ),
        # a of cluster 0: S' = 33, sent as 30
        "a": TrainReply(
            5,
            {"primary": weights(9), "classifier": weights(2), "transfer": weights(33)},
            {},
            NOTHING,
        ),
    }
    three_clusters.before_round(1, [])
    three_clusters.aggregate(1, {name: replies[name] for name in sorted(replies)})
    models = three_clusters.state.models
    assert [model["primary"].floats.tolist() for model in models] == [[9], [1], [7]]
    assert [model["classifier"].floats.tolist() for model in models] == [[2], [-1], [1]]
    # Learners 0 and 1 of source 2 get 19 - 15 = 4 each, learner 2 of source 0 gets 33 - 30 = 3.
    assert [model["secondary"].floats.tolist() for model in models] == [[14], [24], [33]]


def test_a_learner_of_two_teachers_gets_both_updates(three_clusters):
    three_clusters.state.teachers = ((1, 2), (), ())
    # Both teachers train S_0 = 10 itself: +1 from cluster 1 and +5 from cluster 2.
    three_clusters.before_round(1, [])
    three_clusters.aggregate(
        1,
        {
            "b": TrainReply(1, {"transfer": weights(11)}, {}, NOTHING),
            "c": TrainReply(1, {"transfer": weights(15)}, {}, NOTHING),
        },
    )
    models = three_clusters.state.models
    assert models[0]["secondary"].floats.tolist() == [16]
    assert models[1]["secondary"].floats.tolist() == [20]
    assert models[0]["primary"].floats.tolist() == [0]


def test_the_updates_of_several_teachers_are_averaged(three_clusters):
    set_settings(three_clusters, Settings())
    three_clusters.state.teachers = ((0, 1, 2), (0, 1, 2), (0, 1, 2))
    # All teachers start from S' = (10 + 20 + 30) / 3 = 20. Cluster 0 does not reply, 1 sends
    # 20 + 3, 2 sends (1 * 21 + 3 * 29) / 4 = 20 + 7: each S moves by (3 + 7) / 2 = 5.
    three_clusters.before_round(1, [])
    replies = {"b": (9, 23), "c": (1, 21), "d": (3, 29)}
    three_clusters.aggregate(
        1,
        {
            name: TrainReply(count, {"transfer": weights(value)}, {}, NOTHING)
            for name, (count, value) in replies.items()
        },
    )
    models = three_clusters.state.models
    assert [model["secondary"].floats.tolist() for model in models] == [[15], [25], [35]]


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [("both", "bbbbbb"), ("1:1", "pspsps"), ("2:1", "ppspps"), ("5:1", "ppppps")],
)
def test_schedules(three_clusters, schedule, expected):
    settings = Settings.from_run_config({"schedule": schedule})
    set_settings(three_clusters, settings)
    letters = {("primary",): "p", ("secondary",): "s", ("primary", "secondary"): "b"}
    found = [letters[three_clusters.phases_of(r, "c")] for r in range(1, 7)]
    assert "".join(found) == expected
    assert three_clusters.phases_of(6, "b") == (() if expected[5] == "s" else ("primary",))

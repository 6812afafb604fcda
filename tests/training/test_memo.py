import numpy as np

from feddag_flwr.aggregation import Weights
from feddag_flwr.data.samples import LabelledSamples
from feddag_flwr.metrics import Evaluation
from feddag_flwr.training.memo import EvaluationMemo

SCALE = ((0.0, 1.0),)


def make(value=1.0, pixel=0, label=0):
    parts = {"primary": Weights(np.array([value, 2], np.float32))}
    images = np.full((3, 1, 2, 2), pixel, np.uint8)
    return parts, LabelledSamples(images, np.full(3, label, np.int64))


def counter():
    made = []

    def evaluate():
        made.append(Evaluation(np.array([len(made)]), np.array([9]), 0.0))
        return made[-1]

    return made, evaluate


def test_equal_content_is_evaluated_once():
    memo, (made, evaluate) = EvaluationMemo(), counter()
    first = memo.recall(*make(), SCALE, evaluate)
    assert memo.recall(*make(), SCALE, evaluate) is first
    assert len(made) == 1


def test_any_difference_is_evaluated_anew():
    memo, (made, evaluate) = EvaluationMemo(), counter()
    memo.recall(*make(), SCALE, evaluate)
    for changes in ({"value": 1.5}, {"pixel": 1}, {"label": 1}):
        memo.recall(*make(**changes), SCALE, evaluate)
    memo.recall(*make(), ((0.5, 1.0),), evaluate)
    parts, data = make()
    memo.recall({"secondary": parts["primary"]}, data, SCALE, evaluate)
    assert len(made) == 6


def test_what_was_used_longest_ago_goes_first():
    memo, (made, evaluate) = EvaluationMemo(size=2), counter()
    for value in (1.0, 2.0, 1.0, 3.0, 1.0, 2.0):
        memo.recall(*make(value=value), SCALE, evaluate)
    # 2 went when 3 came, for 1 had been used since.
    assert len(made) == 4

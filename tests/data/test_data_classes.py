import numpy as np
import pytest

from feddag_flwr.data.classes import in_classes
from feddag_flwr.data.samples import DataError, LabelledSamples
from feddag_flwr.data.scenarios import ClientData


def part(*labels):
    return LabelledSamples(np.zeros((len(labels), 1, 2, 2), np.uint8), np.array(labels, np.int64))


DATA = ClientData("ward-3", part(0, 1, 1), part(1, 0), ("dog", "cat"), None)


def test_labels_follow_the_names():
    found = in_classes(DATA, ("ape", "cat", "dog"))
    assert found.train.labels.tolist() == [2, 1, 1]
    assert found.test.labels.tolist() == [1, 2]
    assert found.class_names == ("ape", "cat", "dog")
    assert DATA.train.labels.tolist() == [0, 1, 1]


def test_the_same_classes_change_nothing():
    assert in_classes(DATA, ("dog", "cat")) is DATA


def test_a_class_that_the_federation_lacks_is_named():
    with pytest.raises(DataError, match="client 'ward-3': class 'cat' is none of the federation's"):
        in_classes(DATA, ("dog", "eel"))


def test_an_unused_name_may_be_unknown():
    unused = ClientData("x", part(0), part(0), ("dog", "cat"), None)
    assert in_classes(unused, ("dog",)).train.labels.tolist() == [0]


def test_a_class_in_another_unicode_form_is_the_same():
    data = ClientData("ward-3", part(0, 1, 1), part(1, 0), ("dog", "cafe\u0301"), None)
    found = in_classes(data, ("caf\u00e9", "dog"))
    assert found.train.labels.tolist() == [1, 0, 0]
    assert found.test.labels.tolist() == [0, 1]


def test_a_class_in_another_writing_is_named_with_the_one_meant():
    with pytest.raises(DataError, match=r"'cat' is none .*; 'cat' and ' Cat' differ in case, sp"):
        in_classes(DATA, ("dog", " Cat"))

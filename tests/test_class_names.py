import logging

import pytest

from feddag_flwr.class_names import (
    class_name,
    in_other_writing,
    similar_names,
    unknown_classes,
    warn_of_similar_names,
)

COMPOSED, DECOMPOSED = "caf\u00e9", "cafe\u0301"


def test_a_name_has_one_unicode_form():
    assert class_name(DECOMPOSED) == class_name(COMPOSED) == COMPOSED


def test_unknown_classes_are_told_by_name_whatever_their_unicode_form():
    assert unknown_classes([DECOMPOSED, "Dog"], [COMPOSED, "dog"]) == ["Dog"]
    assert unknown_classes([COMPOSED], [DECOMPOSED]) == []


@pytest.mark.parametrize(
    ("names", "others", "told"),
    [
        (("cat", "dog"), (), []),
        (("cat", "Cat "), (), ["'cat' and 'Cat '"]),
        ((COMPOSED, DECOMPOSED), (), ["'caf\u00e9' and 'cafe\\u0301'"]),
        (("cat",), ("Cat", "dog", "Dog"), ["'cat' and 'Cat'"]),
    ],
)
def test_names_that_differ_in_writing_only(names, others, told):
    found = similar_names(names, others)
    assert found == [f"{each} differ in case, spaces or Unicode form only" for each in told]


def test_an_unknown_name_is_told_beside_the_one_that_is_meant():
    assert in_other_writing(["T shirt"], ["bag", "t-shirt"]) == ""
    assert in_other_writing(["T shirt"], ["bag", "Tshirt"]) == (
        "; 'T shirt' and 'Tshirt' differ in case, spaces or Unicode form only"
    )


def test_a_federation_is_warned_of_each_pair(caplog):
    with caplog.at_level(logging.WARNING, logger="flwr"):
        warn_of_similar_names(["bag", "Boot", "boot", "shirt", "sh irt"])
    assert [record.getMessage().partition(" differ")[0] for record in caplog.records] == [
        "'Boot' and 'boot'", "'shirt' and 'sh irt'",
    ]  # fmt: skip

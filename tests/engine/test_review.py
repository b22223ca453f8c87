"""When a review of a case is recommended."""

import pytest

from inference.engine.review import headline, review_reasons


def codes(verdict, **counts):
    return [reason.code for reason in review_reasons(verdict, **counts)]


def test_a_clear_case_needs_no_review():
    assert codes("benign", images=8) == []
    assert codes("malignant", images=8, malignant=3) == []
    assert codes("out_of_domain", images=2, rejected=2) == []
    assert codes("", images=0, failed=2) == [], "there is no result to review"


@pytest.mark.parametrize("verdict", ["benign", "indeterminate"])
def test_one_malignant_image_becomes_the_headline(verdict):
    (reason,) = review_reasons(verdict, images=8, malignant=1)
    assert reason.code == "malignant_image"
    assert reason.message == "1 of 8 images is malignant; the average of the case is not."
    assert headline(verdict, [reason]) == "Review: 1 of 8 images is malignant"
    assert reason.to_json() == {"code": "malignant_image", "message": reason.message}


def test_more_than_half_indeterminate():
    assert codes("benign", images=4, indeterminate=2) == []
    assert codes("benign", images=5, indeterminate=3) == ["mostly_indeterminate"]
    assert codes("benign", images=5, indeterminate=2, rejected=2) == ["mostly_indeterminate", "rejected_images"]


def test_all_reasons_in_their_order():
    found = review_reasons("benign", images=5, malignant=1, indeterminate=3, rejected=1, failed=2)
    assert [reason.code for reason in found] == [
        "malignant_image", "mostly_indeterminate", "rejected_images", "failed_images",
    ]  # fmt: skip
    assert found[-1].message == "2 of 7 images could not be analysed."


def test_which_results_a_headline_replaces():
    reasons = review_reasons("malignant", images=2, malignant=2, failed=1)
    assert reasons and headline("malignant", reasons) == ""
    alone = review_reasons("indeterminate", images=1, indeterminate=1)
    assert [reason.message for reason in alone] == ["The image is indeterminate."]
    assert headline("indeterminate", alone) == ""
    assert headline("benign", review_reasons("benign", images=1, failed=1)) == (
        "Review: 1 of 2 images could not be analysed"
    )

"""Sentences about results."""

import pytest

from cases.reporting import text
from inference.models import ModelVersion


def model(sha256: str, **metrics: float) -> ModelVersion:
    return ModelVersion.objects.create(
        name="m", version="1", file="m.safetensors", sha256=sha256, calibrated=True, cut_low=0.4, cut_high=0.7,
        metadata={"metrics": metrics},
    )  # fmt: skip


@pytest.mark.django_db
def test_a_result_is_stated_with_its_error_rate() -> None:
    known = model("1" * 64, benign_wrong=0.297, malignant_wrong=0.0595)
    assert "On new patients, 30\N{NO-BREAK SPACE}% of benign results were wrong." in text.statement(
        "benign", 0.2, known
    )
    assert "6\N{NO-BREAK SPACE}% of malignant results were wrong" in text.statement("malignant", 0.9, known, "case")
    assert "wrong" not in text.statement("indeterminate", 0.5, known)


@pytest.mark.django_db
def test_no_error_rate_is_stated_if_none_was_measured() -> None:
    assert "wrong" not in text.statement("benign", 0.2, model("2" * 64))


@pytest.mark.django_db
def test_a_share_is_never_rounded_to_a_certainty() -> None:
    known = model("3" * 64)
    assert "more than 99\N{NO-BREAK SPACE}% of images" in text.statement("malignant", 0.9999, known)
    assert "less than 1\N{NO-BREAK SPACE}% of images" in text.statement("benign", 0.0004, known)
    assert "about 91\N{NO-BREAK SPACE}% of images" in text.statement("malignant", 0.907, known)

"""A verdict is never stated without what is known of its errors."""

import pytest

from cases.reporting import text
from inference.models import ModelVersion


def model(sha256: str, **metrics: float) -> ModelVersion:
    return ModelVersion.objects.create(
        name="m", version="1", file="m.safetensors", sha256=sha256, calibrated=True, cut_low=0.4, cut_high=0.7,
        metadata={"metrics": metrics},
    )  # fmt: skip


@pytest.mark.django_db
def test_the_share_of_wrong_verdicts_stands_beside_the_verdict() -> None:
    known = model("1" * 64, benign_wrong=0.297, malignant_wrong=0.0595)
    assert (
        "Of its benign verdicts on images of patients it had not seen, 30\N{NO-BREAK SPACE}% were wrong."
        in text.statement("benign", 0.2, known)
    )
    assert "6\N{NO-BREAK SPACE}% were wrong" in text.statement("malignant", 0.9, known, "case")
    assert "wrong" not in text.statement("indeterminate", 0.5, known)


@pytest.mark.django_db
def test_nothing_is_said_where_nothing_was_measured() -> None:
    assert "patients it had not seen" not in text.statement("benign", 0.2, model("2" * 64))


@pytest.mark.django_db
def test_a_share_is_never_rounded_to_a_certainty() -> None:
    known = model("3" * 64)
    assert "more than 99\N{NO-BREAK SPACE}% are malignant" in text.statement("malignant", 0.9999, known)
    assert "fewer than 1\N{NO-BREAK SPACE}% are malignant" in text.statement("benign", 0.0004, known)
    assert "about 91\N{NO-BREAK SPACE}% are malignant" in text.statement("malignant", 0.907, known)

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
    assert text.statement("benign", 0.2, known) == "About 3 in 10 benign results were wrong on held-out patients."
    assert (
        text.statement("malignant", 0.9, known, "case")
        == "About 6 in 100 malignant results for single images were wrong on held-out patients."
    )
    assert "wrong" not in text.statement("indeterminate", 0.5, known)


@pytest.mark.django_db
def test_it_is_said_if_no_error_rate_was_measured() -> None:
    assert "was not measured" in text.statement("benign", 0.2, model("2" * 64))


@pytest.mark.parametrize(
    ("share", "said"),
    [
        (0.0, "fewer than 1 in 100"), (0.004, "fewer than 1 in 100"), (0.0595, "about 6 in 100"),
        (0.1, "about 1 in 10"), (0.145, "about 14 in 100"), (0.25, "about 25 in 100"), (0.297, "about 3 in 10"),
        (0.996, "more than 99 in 100"),
    ],
)  # fmt: skip
def test_a_share_is_a_natural_frequency_and_never_a_certainty(share: float, said: str) -> None:
    assert text.frequency(share) == said

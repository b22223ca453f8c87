"""A slide with a result."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from django.core.cache import cache
from django.utils import timezone

from cases import services
from cases.models import Slide, User
from inference.engine.grid import Grid
from inference.models import Analysis, PatchTable, State, Verdict
from tests.factories import PASSWORD


@pytest.fixture(autouse=True)
def _no_earlier_attempts() -> Iterator[None]:
    """Nobody is locked out by what another test tried."""
    cache.clear()
    yield
    cache.clear()


@pytest.fixture
def root(db: None) -> User:
    return User.objects.create_superuser("root", password=PASSWORD)


@pytest.fixture
def finished(slide: Slide) -> Slide:
    """Alice's slide with a result, so that every address about it has something to show."""
    analysis = Analysis.objects.get(slide=slide)
    grid = Grid(slide.width, slide.height, analysis.overlap)
    Analysis.objects.filter(pk=analysis.pk).update(
        state=State.DONE,
        verdict=Verdict.BENIGN,
        probability=0.1,
        raw_probability=0.1,
        confidence=0.9,
        benign_patches=len(grid),
        malignant_patches=0,
        runtime="test",
        seconds=1.0,
        started_at=timezone.now(),
        finished_at=timezone.now(),
    )
    PatchTable.objects.create(
        analysis=analysis,
        width=slide.width,
        height=slide.height,
        malignant_bytes=np.full(len(grid), 0.1, "<f4").tobytes(),
        activation_bytes=np.zeros((len(grid), 7, 7), "<f2").tobytes(),
    )
    services.refresh(slide.case)
    return slide

"""Finished slides, made as a worker makes them."""

from __future__ import annotations

import uuid
from collections.abc import Callable

import numpy as np
import pytest
from django.test import Client

from cases.models import Case, Slide, User
from inference.engine.checkpoint import Metadata
from inference.engine.domain import DomainResult
from inference.engine.grid import Grid
from inference.engine.predictor import Prediction
from inference.engine.verdict import slide_verdict
from inference.jobs import queue
from inference.models import ModelVersion
from tests.factories import add_slide

Finish = Callable[..., Slide]


@pytest.fixture
def finish(case: Case, media: object, model: ModelVersion) -> Finish:
    """Adds a slide to Alice's case and ends its analysis with the given malignant probability; the last ``empty`` of
    its patches have no tissue."""

    def make(
        probability: float = 0.2, name: str = "field.png", outside: str = "", of: Case | None = None, empty: int = 0
    ) -> Slide:
        slide = add_slide(of or case, name)
        claim = uuid.uuid4()
        analysis = queue.claim_next(claim)
        assert analysis is not None
        grid = Grid(slide.width, slide.height)
        rows = np.full((len(grid), 2), [1 - probability, probability], dtype=np.float32)
        tissue = np.ones(len(grid), dtype=np.float32)
        activation = np.zeros((len(grid), 7, 7), dtype=np.float16)
        if empty:
            tissue[-empty:], rows[-empty:], activation[-empty:] = 0, np.nan, np.nan
        domain = DomainResult(not outside, outside or None)
        verdict = slide_verdict(rows, Metadata("test", "1"), domain, tissue)
        prediction = Prediction(grid, rows, activation, tissue, verdict, domain, 1.5)
        assert queue.finish(analysis.pk, claim, prediction, "test")
        return slide

    return make


@pytest.fixture
def done(finish: Finish) -> Slide:
    """One finished slide, read benign at 20 %."""
    return finish()


@pytest.fixture
def client_of(as_user: Callable[[User], Client]) -> Callable[[User], Client]:
    return as_user


@pytest.fixture
def client(as_user: Callable[[User], Client], alice: User) -> Client:
    """Alice's browser."""
    return as_user(alice)

"""Fixtures for all tests: users, a registered model with random weights, and the folder of the real data."""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Iterator
from pathlib import Path

import numpy as np
import pytest
from django.contrib.auth.models import Group
from django.core.cache import cache
from django.db import connection
from django.test import Client
from django.utils import timezone

from cases import services
from cases.accounts.permissions import REVIEWERS
from cases.models import Case, Slide, User
from inference.engine.grid import Grid
from inference.models import Analysis, ModelVersion, PatchTable, State, Verdict
from tests.factories import PASSWORD, CaseFactory, UserFactory, add_slide

ROOT = Path(__file__).resolve().parent.parent
DATA = Path(os.environ.get("HISTOPATH_DATA", ROOT.parent / "shared" / "data"))
BUNDLED = sorted((ROOT / "inference" / "weights").glob("*.safetensors"))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """With NO_SKIPS set, everything that tests need is available, and skipped tests count as failed."""
    report = yield
    is_of_one_database = any(item.get_closest_marker(vendor) for vendor in ("postgresql", "sqlite"))
    if report.skipped and os.environ.get("NO_SKIPS") and not hasattr(report, "wasxfail") and not is_of_one_database:
        report.outcome = "failed"
        report.longrepr = f"skipped, where nothing may be: {report.longrepr}"
    return report


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip tests of one database on the other."""
    for vendor in ("postgresql", "sqlite"):
        if item.get_closest_marker(vendor) and connection.vendor != vendor:
            pytest.skip(f"needs {vendor}")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The timeout in pyproject.toml does not apply to slow tests."""
    for item in items:
        if item.get_closest_marker("slow"):
            item.add_marker(pytest.mark.timeout(3600))


@pytest.fixture(scope="session")
def data() -> Path:
    """The folder of real labelled images."""
    if not DATA.is_dir():
        pytest.skip(f"no real images at {DATA} (set HISTOPATH_DATA)")
    return DATA


@pytest.fixture(scope="session")
def demo(data: Path) -> Path:
    """The 14 benign and one malignant demonstration image."""
    return data / "demo"


@pytest.fixture(scope="session")
def random_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A valid checkpoint file with random weights."""
    import torch

    from inference.engine.checkpoint import Metadata, save
    from inference.engine.network import build

    torch.manual_seed(7)
    metadata = Metadata(name="random", version="0")
    state = {name: tensor.numpy() for name, tensor in build(metadata).state_dict().items()}
    path = tmp_path_factory.mktemp("models") / "random.safetensors"
    save(path, state, metadata)
    return path


@pytest.fixture
def media(tmp_path: Path, settings: object) -> Path:
    """An empty file store."""
    settings.MEDIA_ROOT = tmp_path / "media"  # type: ignore[attr-defined]
    return tmp_path / "media"


@pytest.fixture
def model(db: None) -> ModelVersion:
    """An active model version; its file exists only if a test predicts."""
    ModelVersion.objects.filter(is_active=True).update(is_active=False)
    return ModelVersion.objects.create(
        name="test", version="1", file="test.safetensors", sha256="0" * 64, is_active=True, metadata={}
    )


@pytest.fixture
def alice(db: None) -> User:
    """A user who owns the cases of the tests."""
    return UserFactory(username="alice")


@pytest.fixture
def charlie(db: None) -> User:
    """A user without access to Alice's cases."""
    return UserFactory(username="charlie")


@pytest.fixture
def reviewer(db: None) -> User:
    """A reviewer, who may see every case."""
    user = UserFactory(username="rita", is_staff=True)
    user.groups.add(Group.objects.get(name=REVIEWERS))
    return user


@pytest.fixture
def as_user() -> Callable[[User], Client]:
    """A signed-in client."""

    def sign_in(user: User) -> Client:
        client = Client()
        client.force_login(user)
        return client

    return sign_in


@pytest.fixture
def case(alice: User) -> Case:
    return CaseFactory(owner=alice, title="Left breast, core biopsy")


@pytest.fixture
def slide(case: Case, media: Path, model: ModelVersion) -> Slide:
    """A stored slide of Alice's with a queued analysis."""
    return add_slide(case)


@pytest.fixture(autouse=True)
def _no_earlier_attempts() -> Iterator[None]:
    """Clear rate limits and lockouts between tests."""
    cache.clear()
    yield
    cache.clear()


@pytest.fixture
def root(db: None) -> User:
    return User.objects.create_superuser("root", password=PASSWORD)


@pytest.fixture
def finished(slide: Slide) -> Slide:
    """Alice's slide with a result."""
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

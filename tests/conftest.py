"""Fixtures for all tests: people, a registered model with random weights, and where the real data lies."""

from __future__ import annotations

import os
from collections.abc import Callable, Generator
from pathlib import Path

import pytest
from django.contrib.auth.models import Group
from django.test import Client

from cases.accounts.permissions import REVIEWERS
from cases.models import Case, Slide, User
from inference.models import ModelVersion
from tests.factories import CaseFactory, UserFactory, add_slide

ROOT = Path(__file__).resolve().parent.parent
DATA = Path(os.environ.get("HISTOPATH_DATA", ROOT.parent / "shared" / "data"))
BUNDLED = sorted((ROOT / "inference" / "weights").glob("*.safetensors"))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Where everything is there that a test may need (NO_SKIPS is set), a skipped test is a failed one."""
    report = yield
    if report.skipped and os.environ.get("NO_SKIPS") and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"skipped, where nothing may be: {report.longrepr}"
    return report


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
    """A checkpoint file with random weights: right in form, without any knowledge."""
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
    """An active model version; its file need not exist where nothing is predicted."""
    ModelVersion.objects.filter(is_active=True).update(is_active=False)
    return ModelVersion.objects.create(
        name="test", version="1", file="test.safetensors", sha256="0" * 64, is_active=True, metadata={}
    )


@pytest.fixture
def alice(db: None) -> User:
    """Owns things."""
    return UserFactory(username="alice")


@pytest.fixture
def charlie(db: None) -> User:
    """Has nothing to do with Alice."""
    return UserFactory(username="charlie")


@pytest.fixture
def reviewer(db: None) -> User:
    """Reads every case."""
    user = UserFactory(username="rita", is_staff=True)
    user.groups.add(Group.objects.get(name=REVIEWERS))
    return user


@pytest.fixture
def as_user() -> Callable[[User], Client]:
    """A client that is signed in."""

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
    """A stored slide of Alice's, its analysis queued."""
    return add_slide(case)

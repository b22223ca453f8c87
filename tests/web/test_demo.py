"""The demonstration command."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from cases.images import synthetic
from cases.management.commands import demo
from inference.models import ModelVersion
from tests.factories import UserFactory


def test_samples_that_were_not_added_are_added_the_next_time(
    db: None, media: Path, model: ModelVersion, tmp_path: Path, settings: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    UserFactory(username=demo.ACCOUNT)
    (tmp_path / "samples" / "a folder.png").mkdir(parents=True)
    for number in range(3):
        synthetic.draw(number, 420).save(tmp_path / "samples" / f"{number}.png")
    (tmp_path / "samples" / "._0.png").write_bytes(b"hidden")
    settings.MAX_PENDING = 2
    case = demo.Command()._open_case(tmp_path / "samples")
    assert "3 samples were not added: 3 images at once are too many" in capsys.readouterr().err
    settings.MAX_PENDING = 100
    for _ in range(2):
        assert demo.Command()._open_case(tmp_path / "samples") == case
        assert case.slides.count() == 3

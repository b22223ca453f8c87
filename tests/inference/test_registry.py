"""Which model serves after an upgrade."""

import shutil
from pathlib import Path
from typing import Any

import pytest

from inference import registry
from inference.models import ModelVersion


@pytest.mark.django_db
def test_where_the_active_models_file_is_gone_the_one_at_hand_takes_over(
    settings: Any, tmp_path: Path, random_checkpoint: Path
) -> None:
    """As where a release brings a new bundled model in place of the old one."""
    settings.MODEL_DIR = tmp_path
    ModelVersion.objects.all().delete()
    gone = ModelVersion.objects.create(
        name="old", version="1", file="gone.safetensors", sha256="0" * 64, is_active=True
    )
    shutil.copy(random_checkpoint, tmp_path / "new.safetensors")
    registry.register_bundled()
    assert registry.active_model().file == "new.safetensors"
    assert ModelVersion.objects.filter(pk=gone.pk, is_active=False).exists()
    registry.register_bundled()
    assert registry.active_model().file == "new.safetensors"

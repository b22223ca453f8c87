"""Registering, activating and repairing model versions."""

import shutil
from dataclasses import replace
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.core.cache import cache
from django.core.management import CommandError, call_command

from inference import registry
from inference.engine import quantised
from inference.jobs import worker
from inference.models import ModelVersion


@pytest.mark.django_db
def test_a_bundled_model_replaces_an_active_one_whose_file_is_missing(
    settings: Any, tmp_path: Path, random_checkpoint: Path
) -> None:
    """As after an upgrade that replaces the bundled model."""
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


@pytest.fixture
def registered(settings: Any, tmp_path: Path, random_checkpoint: Path, db: None) -> ModelVersion:
    settings.MODEL_DIR = tmp_path / "models"
    settings.MODEL_DIR.mkdir()
    ModelVersion.objects.all().delete()
    shutil.copy(random_checkpoint, settings.MODEL_DIR / "model.safetensors")
    model = registry.add(settings.MODEL_DIR / "model.safetensors")
    registry.activate(model)
    return model


@pytest.mark.parametrize("harm", ["damaged", "gone"])
@pytest.mark.parametrize("name", ["model.safetensors", "again.safetensors"])
def test_a_model_with_a_damaged_file_can_be_added_again(
    harm: str, name: str, registered: ModelVersion, tmp_path: Path, random_checkpoint: Path
) -> None:
    if harm == "damaged":
        Path(registered.path).write_bytes(b"x")
    else:
        Path(registered.path).unlink()
    shutil.copy(random_checkpoint, tmp_path / name)
    call_command("model", "add", str(tmp_path / name), "--activate", stdout=StringIO())
    model = registry.active_model()
    assert (model.pk, model.file) == (registered.pk, name)
    registry.verify(model)


def test_an_intact_file_is_not_replaced(registered: ModelVersion, tmp_path: Path, random_checkpoint: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(random_checkpoint.read_bytes())
    with pytest.raises(CommandError, match="already exists"):
        call_command("model", "add", str(tmp_path / "model.safetensors"), stdout=StringIO())


def test_a_renamed_file_is_found_again(registered: ModelVersion) -> None:
    Path(registered.path).rename(Path(registered.path).with_name("renamed.safetensors"))
    registry.register_bundled()
    assert registry.active_model().file == "renamed.safetensors"
    registry.verify(registry.active_model())


def test_a_name_that_is_too_long_is_rejected_and_leaves_nothing(
    registered: ModelVersion, tmp_path: Path, random_checkpoint: Path, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    long = tmp_path / f"{'x' * 240}.safetensors"
    shutil.copy(random_checkpoint, long)
    ModelVersion.objects.all().delete()
    metadata, sha256 = registry.read_metadata(long)
    monkeypatch.setattr(registry, "read_metadata", lambda _: (replace(metadata, name="n" * 101), sha256))
    with pytest.raises(CommandError, match="name is longer"):
        call_command("model", "add", str(long), stdout=StringIO())
    registry.register_bundled()
    assert not ModelVersion.objects.exists()
    assert [path.name for path in settings.MODEL_DIR.iterdir()] == ["model.safetensors"]


def test_a_temporary_read_error_is_not_cached(registered: ModelVersion, monkeypatch: pytest.MonkeyPatch) -> None:
    def passing(model: ModelVersion) -> None:
        raise OSError(24, "Too many open files")

    cache.clear()
    with monkeypatch.context() as patched:
        patched.setattr(registry, "verify", passing)
        assert not registry.is_usable()
    assert registry.is_usable()


def test_damaged_files_of_an_int8_or_bf16_form_are_reported(registered: ModelVersion) -> None:
    path = quantised.path_of(Path(registered.path), "json")
    assert registry.form_problems(registered) == []
    path.write_text("{")
    problem = f"{path.name} or a file that it refers to can't be read (JSONDecodeError)."
    assert registry.form_problems(registered) == [problem]
    said = StringIO()
    with pytest.raises(CommandError):
        call_command("verify", stderr=said)
    assert problem in said.getvalue()


def test_a_worker_tells_of_a_damaged_form(registered: ModelVersion, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker, "_predictors", {})
    quantised.path_of(Path(registered.path), "json", "bf16").write_text("{")
    worker.predictor_for(registered)
    assert worker.fell_back.is_set(), "the heartbeat passes it on to /health"
    monkeypatch.setattr(worker, "_predictors", {})
    quantised.path_of(Path(registered.path), "json", "bf16").unlink()
    worker.predictor_for(registered)
    assert not worker.fell_back.is_set()

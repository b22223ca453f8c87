"""The registry of model versions: add, check and activate."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.cache import cache
from django.db import connection, transaction

from .engine.checkpoint import CheckpointError, read_metadata
from .models import ModelVersion

log = logging.getLogger(__name__)


class NoModel(RuntimeError):
    """No model version is active, so images can't be analysed."""


def active_model() -> ModelVersion:
    """The model version that new analyses use. Raises :class:`NoModel`."""
    model = ModelVersion.objects.filter(is_active=True).first()
    if model is None:
        raise NoModel("No model is active. Add and activate one: manage.py model add, manage.py model activate.")
    return model


def add(path: Path) -> ModelVersion:
    """Register a checkpoint in the model directory.

    Files with the same content are one version. If the registered file is missing or damaged, the version refers to
    this file from now on. Raises :class:`inference.engine.checkpoint.CheckpointError` for a file that can't be used.
    """
    metadata, sha256 = read_metadata(path)
    _require_short(name=metadata.name, version=metadata.version, file=path.name)
    model, made = ModelVersion.objects.get_or_create(
        sha256=sha256,
        defaults={
            "name": metadata.name,
            "version": metadata.version,
            "file": path.name,
            "metadata": json.loads(metadata.to_json()),
            "cut_low": metadata.cut_low,
            "cut_high": metadata.cut_high,
            "calibrated": metadata.calibrated,
        },
    )
    if not made and model.file != path.name and not _is_whole(model):
        model.file = path.name
        model.save(update_fields=["file"])
    return model


def _require_short(**values: str) -> None:
    for name, value in values.items():
        longest = getattr(ModelVersion._meta.get_field(name), "max_length", None)
        if longest and len(value) > longest:
            raise CheckpointError("metadata", f"The checkpoint's {name} is longer than {longest} characters.")


def _is_whole(model: ModelVersion) -> bool:
    try:
        verify(model)
    except (CheckpointError, OSError):
        return False
    return True


def verify(model: ModelVersion) -> None:
    """Raise :class:`CheckpointError` unless the file exists and is the one that was registered."""
    read_metadata(Path(model.path), expected_sha256=model.sha256)


def form_problems(model: ModelVersion) -> list[str]:
    """A sentence for each INT8 or bf16 form of a model with damaged files or a failed check on this machine.

    Loads the model if it is active. Raises :class:`CheckpointError` if that fails.
    """
    from .engine import quantised, runtime

    path = Path(model.path)
    found = quantised.problems(path, model.sha256)
    if model.is_active:
        found += runtime.load(path, settings.ANALYSIS_DEVICE, settings.ANALYSIS_THREADS).problems
    return list(dict.fromkeys(found))


def activate(model: ModelVersion) -> None:
    """Use this version for new analyses. Raises :class:`CheckpointError`; the previous version then stays active."""
    verify(model)
    with transaction.atomic():
        ModelVersion.objects.filter(is_active=True).exclude(pk=model.pk).update(is_active=False)
        ModelVersion.objects.filter(pk=model.pk).update(is_active=True)


def register_bundled(**kwargs: Any) -> None:
    """Receiver of ``post_migrate``: register the checkpoints in MODEL_DIR, and activate the newest if no active version
    has its file."""
    if ModelVersion._meta.db_table not in connection.introspection.table_names():
        return  # migrated back to before this table existed
    found = []
    for path in sorted(Path(settings.MODEL_DIR).glob("*.safetensors")):
        try:
            found.append(add(path))
        except CheckpointError as error:
            log.warning("%s was not registered: %s", path.name, error)
    if found and not _active_file_is_there():
        try:
            activate(found[-1])
        except CheckpointError as error:
            log.warning("%s was not activated: %s", found[-1], error)


def _active_file_is_there() -> bool:
    """Whether the active version's file exists: a release may have replaced the bundled one."""
    model = ModelVersion.objects.filter(is_active=True).first()
    return model is not None and Path(model.path).is_file()


def has_active() -> bool:
    """Whether a model version is active, even if its file is missing or damaged."""
    return ModelVersion.objects.filter(is_active=True).exists()


def is_usable() -> bool:
    """Whether a model is active and its file is the registered one.

    The result is cached until the file changes: for an hour if it is intact, otherwise for 10 seconds.
    """
    model = ModelVersion.objects.filter(is_active=True).first()
    if model is None:
        return False
    try:
        stat = Path(model.path).stat()
    except OSError:
        return False
    key = f"model-usable-{model.sha256}-{stat.st_size}-{stat.st_mtime_ns}"
    known = cache.get(key)
    if known is None:
        try:
            verify(model)
            known = True
        except OSError:
            # Not cached: the error may be temporary while the file stays the same.
            return False
        except CheckpointError:
            known = False
        cache.set(key, known, 3600 if known else 10)
    return bool(known)

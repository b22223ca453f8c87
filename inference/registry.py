"""Which model versions there are, and which one is active."""

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
    """No model version is active, so nothing can be analysed."""


def active_model() -> ModelVersion:
    """The model version that new analyses use. Raises :class:`NoModel`."""
    model = ModelVersion.objects.filter(is_active=True).first()
    if model is None:
        raise NoModel("No model is active. Add and activate one: manage.py model add, manage.py model activate.")
    return model


def add(path: Path) -> ModelVersion:
    """Register a checkpoint that lies in the model directory; the same content twice is one version, which takes this
    file where its own is gone or damaged.

    Raises :class:`inference.engine.checkpoint.CheckpointError` for a file that can't be used.
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
            raise CheckpointError("metadata", f"its {name} is longer than {longest} characters")


def _is_whole(model: ModelVersion) -> bool:
    try:
        verify(model)
    except (CheckpointError, OSError):
        return False
    return True


def verify(model: ModelVersion) -> None:
    """Raise :class:`CheckpointError` unless the file is there and is the one that was registered."""
    read_metadata(Path(model.path), expected_sha256=model.sha256)


def form_problems(model: ModelVersion) -> list[str]:
    """A sentence for each faster form of a model whose files are damaged, or that fails its check on this machine.

    Loads the model if it is active. Raises :class:`CheckpointError` where that fails.
    """
    from .engine import quantised, runtime

    path = Path(model.path)
    found = quantised.problems(path, model.sha256)
    if model.is_active:
        found += runtime.load(path, settings.ANALYSIS_DEVICE, settings.ANALYSIS_THREADS).problems
    return list(dict.fromkeys(found))


def activate(model: ModelVersion) -> None:
    """Use this version from now on. Raises :class:`CheckpointError`, and the old one stays active."""
    verify(model)
    with transaction.atomic():
        ModelVersion.objects.filter(is_active=True).exclude(pk=model.pk).update(is_active=False)
        ModelVersion.objects.filter(pk=model.pk).update(is_active=True)


def register_bundled(**kwargs: Any) -> None:
    """After migrating: register the checkpoints at hand, and activate the newest if none with a file is active."""
    if ModelVersion._meta.db_table not in connection.introspection.table_names():
        return  # migrated back to before there were models
    found = []
    for path in sorted(Path(settings.MODEL_DIR).glob("*.safetensors")):
        try:
            found.append(add(path))
        except CheckpointError as error:
            log.warning("%s is left out: %s", path.name, error)
    if found and not _active_file_is_there():
        try:
            activate(found[-1])
        except CheckpointError as error:
            log.warning("%s is not activated: %s", found[-1], error)


def _active_file_is_there() -> bool:
    """Whether some version is active and has its file: a release may have replaced the bundled one."""
    model = ModelVersion.objects.filter(is_active=True).first()
    return model is not None and Path(model.path).is_file()


def has_active() -> bool:
    """Whether any model version is active, be its file in order or not."""
    return ModelVersion.objects.filter(is_active=True).exists()


def is_usable() -> bool:
    """Whether a model is active and its file is the registered one.

    The file is read whole only where it is new, has changed, or was last read an hour ago; a bad one every 10 s.
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
            # It may pass, and the file stay as it is.
            return False
        except CheckpointError:
            known = False
        cache.set(key, known, 3600 if known else 10)
    return bool(known)

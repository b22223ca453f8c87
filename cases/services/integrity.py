"""Checks that stored files and case results match the database."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

from cases import services
from cases.images import deletion
from cases.models import Case, Slide
from cases.services import retention
from inference import registry
from inference.engine.checkpoint import CheckpointError
from inference.models import ModelVersion


def problems() -> Iterator[str]:
    """A sentence for each problem found."""
    for slide in Slide.objects.iterator():
        storage = slide.file.storage
        try:
            with storage.open(str(slide.file.name)) as file:
                found = hashlib.file_digest(file, "sha256").hexdigest()
        except FileNotFoundError:
            if Slide.objects.filter(pk=slide.pk).exists():
                yield f"Slide {slide.pk}: its file {slide.file.name} is missing."
            continue
        except OSError as error:
            yield f"Slide {slide.pk}: its file {slide.file.name} can't be read ({error.strerror or error})."
            continue
        else:
            if slide.stored_sha256 and found != slide.stored_sha256:
                yield f"Slide {slide.pk}: its file {slide.file.name} was changed."
        if not storage.exists(str(slide.thumbnail.name)) and Slide.objects.filter(pk=slide.pk).exists():
            yield f"Slide {slide.pk}: its thumbnail is missing."
    for pk in Case.objects.values_list("pk", flat=True):
        if services.check_aggregate(pk):
            yield f"Case {pk}: its stored result differs from its analyses; --mend recalculates it."
    for model in ModelVersion.objects.all():
        if not model.is_active and not Path(model.path).exists():
            # A release may have replaced it.
            continue
        try:
            registry.verify(model)
            yield from (f"Model {model}: {problem}" for problem in registry.form_problems(model))
        except CheckpointError as error:
            yield f"Model {model}: {error}"
    if waiting := deletion.left().count():
        yield f"{waiting} files could not be deleted yet, because the file store failed. This is retried every minute."
    for name in retention.orphans(older_than=retention.ABANDONED)[0]:
        yield f"{name} belongs to no slide."

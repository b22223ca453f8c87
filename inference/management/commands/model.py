"""manage.py model: the registry of model versions from a terminal."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser

from inference import registry
from inference.engine.checkpoint import CheckpointError, import_upstream, read_metadata
from inference.models import ModelVersion


class Command(BaseCommand):
    help = "List, add and activate model versions."

    def add_arguments(self, parser: CommandParser) -> None:
        actions = parser.add_subparsers(dest="action", required=True)
        actions.add_parser("list", help="all versions; * marks the active one")
        add = actions.add_parser("add", help="register a checkpoint; a .pth of the upstream layout is converted")
        add.add_argument("path", type=Path)
        add.add_argument("--name", default="upstream", help="name of a converted .pth (%(default)s)")
        add.add_argument("--model-version", default="1", help="version of a converted .pth (%(default)s)")
        add.add_argument("--activate", action="store_true", help="use it from now on")
        activate = actions.add_parser("activate", help="use a version from now on")
        activate.add_argument("sha256", help="SHA-256 or its beginning, as listed")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            getattr(self, options["action"])(options)
        except CheckpointError as error:
            raise CommandError(f"Refused ({error.code}): {error}") from error

    def list(self, options: dict[str, Any]) -> None:
        for model in ModelVersion.objects.all():
            mark = "*" if model.is_active else " "
            state = f"cut points {model.cut_low:g}/{model.cut_high:g}" if model.calibrated else "uncalibrated"
            try:
                registry.verify(model)
            except CheckpointError as error:
                state += f", FILE {error.code.upper()}"
            self.stdout.write(f"{mark} {model.short_sha256}  {model}  {model.file}  {state}")

    def add(self, options: dict[str, Any]) -> None:
        source = options["path"]
        target = Path(settings.MODEL_DIR) / source.with_suffix(".safetensors").name
        if target.exists() and target.resolve() != source.resolve():
            raise CommandError(f"{target.name} exists already in {target.parent}; rename one of them.")
        if source.suffix in (".pth", ".pt"):
            import_upstream(source, target, options["name"], options["model_version"])
        elif target.resolve() != source.resolve():
            read_metadata(source)
            target.parent.mkdir(parents=True, exist_ok=True)
            partial = target.with_suffix(".partial")
            shutil.copyfile(source, partial)
            partial.replace(target)
        model = registry.add(target)
        self.stdout.write(f"added {model} {model.sha256}")
        if options["activate"]:
            self._activate(model)

    def activate(self, options: dict[str, Any]) -> None:
        found = ModelVersion.objects.filter(sha256__startswith=options["sha256"].lower())
        if len(found) != 1:
            raise CommandError(f"{len(found)} versions begin with {options['sha256']}; see manage.py model list.")
        self._activate(found[0])

    def _activate(self, model: ModelVersion) -> None:
        registry.activate(model)
        self.stdout.write(f"active: {model} {model.sha256}")

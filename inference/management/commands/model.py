"""manage.py model: the registry of model versions from a terminal."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import connection

from inference import registry
from inference.engine.checkpoint import CheckpointError, read_metadata, sha256
from inference.engine.quantised import FORMS, describe, has_vnni
from inference.models import ModelVersion

FOLDS = Path(__file__).resolve().parents[3] / "docs" / "model" / "folds.json"


class Command(BaseCommand):
    help = "List, add, activate and optimise model versions."
    # Needs no SECRET_KEY.
    requires_system_checks: list[str] = []

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
        optimize = actions.add_parser("optimize", help="compare a faster form of a version with fp32")
        optimize.add_argument(
            "sha256", nargs="?", default="", help="SHA-256 or its beginning (default: the active one)"
        )
        optimize.add_argument(
            "--form",
            choices=FORMS,
            default="int8",
            help="INT8 is made first (%(default)s)",
        )
        optimize.add_argument("--data", type=Path, default=Path(os.environ.get("HISTOPATH_DATA", "../shared/data")))
        optimize.add_argument(
            "--weights", type=Path, default=Path(os.environ.get("HISTOPATH_WEIGHTS", "../shared/weights"))
        )
        optimize.add_argument("--folds", type=Path, default=FOLDS, help="groups of the folds (%(default)s)")
        optimize.add_argument("--fold", type=int, default=0, help="fold whose groups the comparison uses (%(default)s)")
        optimize.add_argument("--cache", type=Path, default=Path("var/training/cache"), help="features (%(default)s)")

    def handle(self, *args: Any, **options: Any) -> None:
        if not connection.introspection.table_names():
            # A fresh clone: the registry starts with the bundled checkpoints.
            call_command("migrate", interactive=False, verbosity=0, skip_checks=True)
        try:
            getattr(self, options["action"])(options)
        except CheckpointError as error:
            raise CommandError(f"Refused ({error.code}): {error}") from error
        except (OSError, registry.NoModel) as error:
            raise CommandError(str(error)) from error

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
        if target.exists() and target.resolve() != source.resolve() and not _repairs(source, target):
            raise CommandError(f"{target.name} exists already in {target.parent}; rename one of them.")
        if source.suffix in (".pth", ".pt"):
            from inference.engine.upstream import import_upstream  # needs torch, which the other actions do not

            import_upstream(source, target, options["name"], options["model_version"])
        elif target.resolve() != source.resolve():
            read_metadata(source)
            target.parent.mkdir(parents=True, exist_ok=True)
            partial = target.with_suffix(".partial")
            shutil.copyfile(source, partial)
            partial.replace(target)
        try:
            model = registry.add(target)
        except CheckpointError:
            if target.resolve() != source.resolve():
                target.unlink()
            raise
        self.stdout.write(f"added {model} {model.sha256}")
        if options["activate"]:
            self._activate(model)

    def activate(self, options: dict[str, Any]) -> None:
        self._activate(self._named(options["sha256"]))

    def _named(self, sha256: str) -> ModelVersion:
        found = ModelVersion.objects.filter(sha256__startswith=sha256.lower())
        if not sha256 or len(found) != 1:
            raise CommandError(f"{len(found)} versions begin with {sha256}; see manage.py model list.")
        return found[0]

    def optimize(self, options: dict[str, Any]) -> None:
        from inference.learning.evaluation import read_folds
        from inference.learning.optimise import judge_bf16, optimise

        model = self._named(options["sha256"]) if options["sha256"] else registry.active_model()
        registry.verify(model)
        form = options["form"]
        if form == "int8" and not has_vnni():
            raise CommandError("Refused (missing): the comparison needs a processor with VNNI instructions.")
        try:
            if form == "bf16":
                record = judge_bf16(Path(model.path), options["data"], self.stdout.write)
            else:
                record = optimise(
                    Path(model.path), options["data"], options["weights"], options["cache"],
                    read_folds(options["folds"]), options["fold"], self.stdout.write,
                )  # fmt: skip
        except ValueError as error:
            raise CommandError(str(error)) from error
        for one in record.comparisons:
            self.stdout.write(f"{one.what}: {describe(one)}")
        if not record.passed:
            raise CommandError(f"The {form} form disagrees too much and will not be used.")

    def _activate(self, model: ModelVersion) -> None:
        registry.activate(model)
        self.stdout.write(f"active: {model} {model.sha256}")


def _repairs(source: Path, target: Path) -> bool:
    """Whether the source is what was registered under the name of a file that is not that any more."""
    registered = set(ModelVersion.objects.filter(file=target.name).values_list("sha256", flat=True))
    if source.suffix in (".pth", ".pt") or not registered:
        return False
    return sha256(target) not in registered and read_metadata(source)[1] in registered

"""manage.py model: list, add, activate and optimise model versions."""

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
        actions.add_parser("list", help="list all versions; * marks the active one")
        add = actions.add_parser("add", help="register a checkpoint; a two-class ResNet50 in a .pth file is converted")
        add.add_argument("path", type=Path, help="checkpoint (.safetensors) or PyTorch file (.pth, .pt)")
        add.add_argument("--name", default="upstream", help="name for a converted file (%(default)s)")
        add.add_argument("--model-version", default="1", help="version for a converted file (%(default)s)")
        add.add_argument("--activate", action="store_true", help="also activate it")
        activate = actions.add_parser("activate", help="use a version for new analyses")
        activate.add_argument("sha256", help="SHA-256 or its first characters, as listed")
        optimize = actions.add_parser("optimize", help="create or check the INT8 or bf16 form of a version")
        optimize.add_argument(
            "sha256", nargs="?", default="", help="SHA-256 or its first characters (default: the active version)"
        )
        optimize.add_argument(
            "--form",
            choices=FORMS,
            default="int8",
            help="int8 quantises the model first; both forms are compared with fp32 (%(default)s)",
        )
        optimize.add_argument(
            "--data",
            type=Path,
            default=Path(os.environ.get("HISTOPATH_DATA", "../shared/data")),
            help="labelled images (%(default)s)",
        )
        optimize.add_argument(
            "--weights",
            type=Path,
            default=Path(os.environ.get("HISTOPATH_WEIGHTS", "../shared/weights")),
            help="trunk to retrain the fold's model from (%(default)s)",
        )
        optimize.add_argument("--folds", type=Path, default=FOLDS, help="fold of each group (%(default)s)")
        optimize.add_argument("--fold", type=int, default=0, help="held-out fold for the comparison (%(default)s)")
        optimize.add_argument(
            "--cache", type=Path, default=Path("var/training/cache"), help="cached features (%(default)s)"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        if not connection.introspection.table_names():
            # New installation: migrating also registers the bundled checkpoints.
            call_command("migrate", interactive=False, verbosity=0, skip_checks=True)
        try:
            getattr(self, options["action"])(options)
        except CheckpointError as error:
            raise CommandError(f"Rejected ({error.code}): {error}") from error
        except (OSError, registry.NoModel) as error:
            raise CommandError(str(error)) from error

    def list(self, options: dict[str, Any]) -> None:
        for model in ModelVersion.objects.all():
            mark = "*" if model.is_active else " "
            state = f"thresholds {model.cut_low:g}/{model.cut_high:g}" if model.calibrated else "uncalibrated"
            try:
                registry.verify(model)
            except CheckpointError as error:
                state += f", FILE {error.code.upper()}"
            self.stdout.write(f"{mark} {model.short_sha256}  {model}  {model.file}  {state}")

    def add(self, options: dict[str, Any]) -> None:
        source = options["path"]
        target = Path(settings.MODEL_DIR) / source.with_suffix(".safetensors").name
        if target.exists() and target.resolve() != source.resolve() and not _repairs(source, target):
            raise CommandError(f"{target.name} already exists in {target.parent}; rename one of them.")
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
            raise CommandError(
                f"{len(found)} versions have a SHA-256 that begins with {sha256}; see manage.py model list."
            )
        return found[0]

    def optimize(self, options: dict[str, Any]) -> None:
        from inference.learning.evaluation import read_folds
        from inference.learning.optimise import compare_bf16, optimise

        model = self._named(options["sha256"]) if options["sha256"] else registry.active_model()
        registry.verify(model)
        form = options["form"]
        if form == "int8" and not has_vnni():
            raise CommandError("Rejected (missing): the comparison needs a processor with VNNI instructions.")
        try:
            if form == "bf16":
                record = compare_bf16(Path(model.path), options["data"], self.stdout.write)
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
            raise CommandError(f"The {form} form differs too much from fp32 and will not be used.")

    def _activate(self, model: ModelVersion) -> None:
        registry.activate(model)
        self.stdout.write(f"active: {model} {model.sha256}")


def _repairs(source: Path, target: Path) -> bool:
    """Whether the target is a damaged copy of a registered checkpoint, and the source is an intact one."""
    registered = set(ModelVersion.objects.filter(file=target.name).values_list("sha256", flat=True))
    if source.suffix in (".pth", ".pt") or not registered:
        return False
    return sha256(target) not in registered and read_metadata(source)[1] in registered

"""manage.py train: train a checkpoint on labelled images and store its out-of-fold predictions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser


class Command(BaseCommand):
    help = (
        "Train a model. The default recipe keeps the trunk frozen, fits and calibrates a linear head by "
        "cross-validation over patients, and takes minutes. --recipe upstream trains all layers, which needs "
        "many patients and a fast machine."
    )
    requires_system_checks = []

    def add_arguments(self, parser: CommandParser) -> None:
        from inference.learning.dataset import default_data
        from inference.management import initial

        parser.add_argument("--data", type=Path, default=default_data(), help="folder with index.csv (%(default)s)")
        parser.add_argument("--breakhis", type=Path, help="official BreakHis folder, instead of --data")
        parser.add_argument("--bach", type=Path, help="also train on the BACH set (licence CC BY-NC-ND)")
        initial.add_arguments(parser)
        parser.add_argument("--out", type=Path, default=Path("var/training"), help="results and cache (%(default)s)")
        parser.add_argument(
            "--recipe", choices=("frozen", "upstream"), default="frozen", help="training recipe (%(default)s)"
        )
        parser.add_argument("--model-version", default="1", help="version stored in the checkpoint (%(default)s)")
        parser.add_argument("--features", choices=("layer3", "layer4", "both"), default="both",
                            help="recipe frozen: features that the head uses (%(default)s)")  # fmt: skip
        parser.add_argument("--folds", type=Path, help="folds.json with the folds of known groups")
        parser.add_argument("--epochs", type=int, default=20, help="recipe upstream: epochs (%(default)s)")
        parser.add_argument("--seed", type=int, default=0, help="random seed (%(default)s)")

    def handle(self, *args: Any, **options: Any) -> None:
        from inference.learning import bach, breakhis, dataset, evaluation, training
        from inference.management import initial

        weights = initial.weights(options, self.stdout.write)
        try:
            if options["breakhis"]:
                samples = breakhis.read_tree(options["breakhis"])
            else:
                samples = dataset.read_index(options["data"])
            if options["bach"]:
                samples += bach.read_bach(options["bach"])
        except (FileNotFoundError, breakhis.TreeError, bach.BachError) as error:
            raise CommandError(f"{error}. Set --data or --breakhis to the folder of the images.") from error
        self.stdout.write(f"{len(samples)} images of {len({sample.group for sample in samples})} groups")
        out, seed, version = options["out"], options["seed"], options["model_version"]
        try:
            if options["recipe"] == "upstream":
                from inference.learning import finetune

                recipe = finetune.Upstream(epochs=options["epochs"], seed=seed)
                finetune.train(samples, weights, out, recipe, version, self.stdout.write)
            else:
                features = options["features"] if weights.is_file() else "layer3"
                frozen = training.Recipe(features=features, seed=seed)
                data = None if options["breakhis"] else options["data"]
                folds = evaluation.read_folds(options["folds"]) if options["folds"] else None
                training.train(samples, weights, out, frozen, version, self.stdout.write, data, folds)
        except ValueError as error:
            raise CommandError(str(error)) from error
        except FileNotFoundError as error:
            raise CommandError(f"{error}. Set --weights to the initial weights.") from error

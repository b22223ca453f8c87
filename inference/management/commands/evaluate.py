"""manage.py evaluate: the model card from stored predictions, or metrics of a checkpoint on BreakHis or BACH."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser

if TYPE_CHECKING:
    from inference.learning.crossval import Patches
    from inference.learning.dataset import Sample
    from inference.learning.evaluation import Row
    from inference.learning.head import Auxiliary

RECORD = Path(__file__).resolve().parents[3] / "docs" / "model"


class Command(BaseCommand):
    help = (
        "Print the model card from stored out-of-fold predictions. --card writes it to a file; --fold retrains one "
        "fold and compares it with the record; --laboratories tests on laboratories left out; --gate repeats the "
        "evaluation of the domain check; --breakhis and --bach evaluate a checkpoint on these data sets."
    )
    requires_system_checks = []

    def add_arguments(self, parser: CommandParser) -> None:
        from inference.learning.dataset import default_data

        parser.add_argument("--record", type=Path, default=RECORD, help="folder with predictions.csv and folds.json")
        parser.add_argument("--checkpoint", type=Path, help="checkpoint to evaluate (default: the bundled one)")
        parser.add_argument("--card", action="store_true", help="write card.md and its pictures into --record, and "
                            "the figures for the model page next to the checkpoint")  # fmt: skip
        parser.add_argument("--gate", action="store_true", help="evaluate the domain check again (takes minutes)")
        parser.add_argument("--fold", type=int, help="retrain this fold and compare with the stored predictions")
        parser.add_argument("--laboratories", action="store_true", help="train without each laboratory, test on it "
                            "and write laboratories.csv into --record")  # fmt: skip
        parser.add_argument("--replicates", type=int, default=1000, help="bootstrap replicates (%(default)s)")
        parser.add_argument("--data", type=Path, default=default_data(), help="folder with index.csv (%(default)s)")
        parser.add_argument("--weights", type=Path, help="trunk for --fold and --folds: a checkpoint, or the folder of "
                            "the ImageNet weights (default: the checkpoint's own trunk)")  # fmt: skip
        parser.add_argument("--out", type=Path, default=Path("var/training"), help="feature cache for --fold and "
                            "--laboratories")  # fmt: skip
        parser.add_argument("--bach", type=Path, help="evaluate the checkpoint on the BACH set in this folder")
        parser.add_argument("--breakhis", type=Path, help="evaluate on the official BreakHis folder")
        parser.add_argument("--folds", type=Path, help="with --breakhis: folder with dsfold1.txt ... dsfold5.txt; a "
                            "head is trained for each fold")  # fmt: skip

    def handle(self, *args: Any, **options: Any) -> None:
        from inference.engine.checkpoint import CheckpointError
        from inference.learning.bach import BachError
        from inference.learning.breakhis import TreeError
        from inference.learning.dataset import LeakError

        try:
            if options["breakhis"]:
                self.on_breakhis(options)
            elif options["bach"]:
                self.on_bach(options)
            elif options["laboratories"]:
                self.leave_laboratories_out(options)
            elif options["fold"] is not None:
                self.retrain_fold(options)
            else:
                self.from_record(options)
        except (FileNotFoundError, CheckpointError, TreeError, BachError, LeakError) as error:
            raise CommandError(str(error)) from error

    def checkpoint(self, options: dict[str, Any]) -> Path:
        if options["checkpoint"]:
            return Path(options["checkpoint"])
        bundled = sorted(Path(settings.BASE_DIR, "inference", "weights").glob("*.safetensors"))
        if not bundled:
            raise CommandError("There is no bundled checkpoint; give one with --checkpoint.")
        return bundled[-1]

    def from_record(self, options: dict[str, Any]) -> None:
        from inference.engine import quantised
        from inference.engine.checkpoint import read_metadata
        from inference.learning import card, curves, evaluation, gate, training

        record = options["record"]
        predictions = training.read_predictions(record / "predictions.csv")
        evaluation.check_record(predictions, evaluation.read_folds(record / "folds.json"))
        if options["gate"]:
            self.measure_gate(options)
        checkpoint = self.checkpoint(options)
        metadata, digest = read_metadata(checkpoint)
        measured = gate.gate_markdown(json.loads((record / "gate.json").read_text(encoding="utf-8")))
        curve = json.loads((record / "learning.json").read_text(encoding="utf-8"))
        more, left_out = self.further_tables(record, predictions, options["replicates"])
        forms = [found for form in quantised.FORMS if (found := quantised.read_record(checkpoint, form))]
        text = card.card(predictions, metadata, digest, measured, forms, curve, options["replicates"], more, left_out)
        if options["card"]:
            (record / "card.md").write_text(text, encoding="utf-8")
            card.write_pictures(predictions, record)
            card.write_learning_curve(curve, record)
            drawn = curves.write(predictions, checkpoint, digest)
            pictures = [record / name for name in ("card.md", "figures.png", "learning.png")]
            self.stdout.write(f"Written: {', '.join(map(str, [*pictures, drawn]))}")
        else:
            self.stdout.write(text)

    def further_tables(self, record: Path, predictions: Any, replicates: int) -> tuple[str, list[Row]]:
        """Markdown for the tables that are on record (subtypes, held-out laboratories, the previous version), and the
        rows of the held-out laboratories."""
        from inference.learning import comparison, evaluation, training

        rows: list[Row] = []
        parts = [
            "### Subtypes of BreakHis, groups equal",
            evaluation.subtypes_markdown(evaluation.subtypes(predictions)),
        ]
        if (record / "laboratories.csv").exists():
            left_out = training.read_predictions(record / "laboratories.csv")
            rows = evaluation.left_out_rows(left_out, replicates)
            parts += ["### Each laboratory predicted by a model made without it", evaluation.markdown(rows)]
            before = record / "previous"
            if (before / "laboratories.csv").exists():
                earlier = [training.read_predictions(before / f"{n}.csv") for n in ("predictions", "laboratories")]
                found = comparison.compare((earlier[0], earlier[1]), (predictions, left_out), replicates)
                parts += [
                    "### Beside the version before, on the same images",
                    comparison.markdown(found, "version before", "this version"),
                ]
        return "\n\n".join(parts), rows

    def measure_gate(self, options: dict[str, Any]) -> None:
        import numpy as np

        from inference.learning import crossval, dataset, evaluation, gate
        from inference.learning.folds import extend_folds

        samples = dataset.read_index(options["data"])
        folds = extend_folds(samples, evaluation.read_folds(options["record"] / "folds.json"))
        plain, varied = gate.real_statistics(samples)
        weight = crossval.slides(samples, np.arange(len(samples)))[2]
        table = gate.measure(samples, folds, plain, varied, weight, gate.other_statistics(options["data"]))
        (options["record"] / "gate.json").write_text(json.dumps(table, indent=1) + "\n", encoding="utf-8")

    def recorded(self, options: dict[str, Any]) -> tuple[list[Sample], Patches, Patches, Auxiliary | None]:
        """The recorded images and their features, by the recipe of the checkpoint."""
        from inference.engine.checkpoint import read_metadata
        from inference.learning import dataset, features, training

        names = {one.name for one in training.read_predictions(options["record"] / "predictions.csv")}
        # Only the recorded images: later ones were not part of the recorded model's training.
        samples = [sample for sample in dataset.read_index(options["data"]) if sample.name in names]
        checkpoint = options["weights"] or self.checkpoint(options)
        recipe, cache = training.recipe_of(read_metadata(checkpoint)[0]), options["out"] / "cache"
        trunk = features.Trunk(*features.trunk_network(checkpoint))
        learn, grid = training.cached_views(samples, trunk, cache, recipe, self.stdout.write)
        extra = training.auxiliary(options["data"], trunk, cache, recipe, self.stdout.write)
        return samples, learn, grid, extra

    def retrain_fold(self, options: dict[str, Any]) -> None:
        from inference.learning import crossval, evaluation, training

        folds = evaluation.read_folds(options["record"] / "folds.json")
        stored = {o.name: o for o in training.read_predictions(options["record"] / "predictions.csv")}
        samples, learn, grid, extra = self.recorded(options)
        fresh = crossval.out_of_fold(
            samples, learn, grid, folds, self.stdout.write, only=options["fold"], auxiliary=extra
        )
        worst = max(abs(one.p - stored[one.name].p) for one in fresh)
        self.stdout.write(f"{len(fresh)} images; largest difference from the record: {worst:.4f}")

    def leave_laboratories_out(self, options: dict[str, Any]) -> None:
        from inference.learning import crossval, evaluation, training

        samples, learn, grid, extra = self.recorded(options)
        predictions = crossval.laboratory_left_out(samples, learn, grid, self.stdout.write, extra)
        training.write_predictions(options["record"] / "laboratories.csv", predictions)
        self.stdout.write(evaluation.markdown(evaluation.left_out_rows(predictions, options["replicates"])))

    def on_bach(self, options: dict[str, Any]) -> None:
        from inference.engine.predictor import Predictor
        from inference.engine.runtime import load
        from inference.learning import bach

        samples = bach.read_bach(options["bach"])
        for line in bach.measure(Predictor(load(self.checkpoint(options), "fp32")), samples, options["replicates"]):
            self.stdout.write(line)

    def on_breakhis(self, options: dict[str, Any]) -> None:
        from inference.engine.network import from_checkpoint
        from inference.learning import breakhis, features, finetune, training

        samples = breakhis.read_tree(options["breakhis"])
        if options["folds"]:
            files = sorted(options["folds"].glob("dsfold*.txt"))
            if not files:
                raise CommandError(f"There is no dsfold*.txt in {options['folds']}.")
            cache = options["out"] / "cache-breakhis"
            trunk = features.Trunk(*features.trunk_network(options["weights"] or self.checkpoint(options)))
            views = training.cached_views(samples, trunk, cache, training.Recipe(), self.stdout.write)
            for file, table in zip(
                files, breakhis.on_official_folds(samples, files, *views, self.stdout.write), strict=True
            ):
                self.print_table(file.stem, table)
            return
        network, metadata = from_checkpoint(self.checkpoint(options))
        trained_on = set(metadata.training.get("groups", []))
        unseen = [sample for sample in samples if sample.group not in trained_on]
        self.stdout.write(f"{len(samples) - len(unseen)} images left out: the model was trained on their patients")
        if unseen:
            p = finetune.predict(network, unseen, "cpu")
            self.print_table("images", breakhis.published_table([s.label for s in unseen], p.tolist(), unseen))

    def print_table(self, name: str, table: list[dict[str, Any]]) -> None:
        self.stdout.write(f"{name}\nmagnification  images  patients  image rate  patient rate")
        for row in table:
            rates = [f"{row[k]:.3f}" if row[k] is not None else "-" for k in ("image_rate", "patient_rate")]
            self.stdout.write(f"{row['magnification']}  {row['images']}  {row['patients']}  {rates[0]}  {rates[1]}")

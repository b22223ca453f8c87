"""manage.py pretrain: pre-train a trunk on H&E patches of other organs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser


class Command(BaseCommand):
    help = (
        "Train layers 2 to 4 of the network on H&E patches of other organs and on IDC patches, starting from ImageNet "
        "weights. Runs for --minutes, resumes when started again, and writes pretrained.safetensors to --out."
    )
    requires_system_checks = []

    def add_arguments(self, parser: CommandParser) -> None:
        from inference.learning.dataset import default_data
        from inference.management import initial

        parser.add_argument("--data", type=Path, default=default_data(), help="folder with pretrain/ (%(default)s)")
        initial.add_arguments(parser)
        parser.add_argument("--out", type=Path, default=Path("var/pretraining"), help="results (%(default)s)")
        parser.add_argument("--minutes", type=float, default=60, help="duration of the run (%(default)s)")
        parser.add_argument("--size", type=int, default=128, help="side length of a crop in pixels (%(default)s)")
        parser.add_argument("--batch", type=int, default=32, help="crops per step (%(default)s)")
        parser.add_argument("--frozen", type=int, choices=(1, 2), default=1, help="last frozen layer (%(default)s)")
        parser.add_argument("--rate", type=float, default=1e-4, help="learning rate up to layer 3 (%(default)s)")
        parser.add_argument("--rate4", type=float, default=5e-4, help="learning rate of layer 4 (%(default)s)")
        parser.add_argument("--average", type=float, default=0.995, help="decay of the weight average (%(default)s)")
        parser.add_argument("--every", type=float, default=5, help="minutes between checkpoints (%(default)s)")
        parser.add_argument("--threads", type=int, help="CPU threads (default: all)")
        parser.add_argument("--seed", type=int, default=0, help="random seed (%(default)s)")

    def handle(self, *args: Any, **options: Any) -> None:
        import torch

        from inference.learning.pretraining import Pretraining, pretrain
        from inference.management import initial

        if options["threads"]:
            torch.set_num_threads(options["threads"])
        recipe = Pretraining(
            **{
                name: options[name]
                for name in ("minutes", "size", "batch", "frozen", "rate", "rate4", "average", "seed")
            }
        )
        try:
            path = pretrain(
                options["data"],
                initial.weights(options, self.stdout.write),
                options["out"],
                recipe,
                say=self.stdout.write,
                every=60 * options["every"],
            )
        except FileNotFoundError as error:
            raise CommandError(
                f"{error}. Set --data to the folder that contains pretrain/, and --weights to the initial weights."
            ) from error
        self.stdout.write(str(path))

"""Options of ``train`` and ``pretrain`` for the initial weights."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from django.core.management.base import CommandError, CommandParser


def add_arguments(parser: CommandParser) -> None:
    from inference.learning.dataset import default_weights
    from inference.learning.initial_weights import SOURCES, default_cache

    parser.add_argument(
        "--weights",
        default=str(default_weights()),
        help=f"initial weights: one of {', '.join(SOURCES)}; a checkpoint, for example from pretrain; a PyTorch file "
        "of a ResNet50; or the folder of the original ImageNet weights (%(default)s)",
    )
    parser.add_argument("--weights-sha256", help="required SHA-256 of named weights or of a PyTorch file")
    parser.add_argument("--weights-cache", type=Path, default=default_cache(), help="download folder (%(default)s)")
    parser.add_argument("--accept-licence", action="store_true", help="accept the licence of the named weights")


def weights(options: dict[str, Any], say: Callable[[str], None]) -> Path:
    """The file or folder with the initial weights. Raises CommandError with the problem and its solution."""
    from inference.engine.checkpoint import CheckpointError
    from inference.learning.initial_weights import LicenceError, resolve

    try:
        return resolve(
            str(options["weights"]),
            options["weights_cache"],
            accept_licence=options["accept_licence"],
            sha256=options["weights_sha256"],
            say=say,
        )
    except (LicenceError, CheckpointError) as error:
        raise CommandError(str(error)) from error
    except OSError as error:
        raise CommandError(
            f"{options['weights']} could not be downloaded: {error}. Set --weights to a local file instead."
        ) from error

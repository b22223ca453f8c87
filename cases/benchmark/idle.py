"""Processor time that the application uses while nobody uses it."""

from __future__ import annotations

import time
from pathlib import Path

from cases.benchmark.stack import descendants


def processor_seconds(pid: int) -> float:
    """Time that all threads of a process have spent on a processor, in seconds; 0 once it has ended. Linux only."""
    total = 0
    for thread in Path(f"/proc/{pid}/task").glob("*/schedstat"):
        try:
            total += int(thread.read_text().split()[0])
        except FileNotFoundError:
            continue
    return total / 1e9


def share_of_a_core(roots: list[int], seconds: float) -> float:
    """What these processes and their descendants use of one core, 0 to 1, while nothing is sent to them."""
    processes = [each for root in roots for each in (root, *descendants(root))]
    before, began = sum(map(processor_seconds, processes)), time.monotonic()
    time.sleep(seconds)
    return (sum(map(processor_seconds, processes)) - before) / (time.monotonic() - began)

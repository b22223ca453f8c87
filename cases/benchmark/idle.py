"""CPU time that an idle application uses."""

from __future__ import annotations

import time
from pathlib import Path

from cases.benchmark.stack import descendants


def processor_seconds(pid: int) -> float:
    """CPU time of all threads of a process, in seconds; 0 if the process has ended. Linux only."""
    total = 0
    for thread in Path(f"/proc/{pid}/task").glob("*/schedstat"):
        try:
            total += int(thread.read_text().split()[0])
        except FileNotFoundError:
            continue
    return total / 1e9


def share_of_a_core(roots: list[int], seconds: float) -> float:
    """CPU time of these processes and their descendants over the next ``seconds``, as a share of one core."""
    processes = [each for root in roots for each in (root, *descendants(root))]
    before, began = sum(map(processor_seconds, processes)), time.monotonic()
    time.sleep(seconds)
    return (sum(map(processor_seconds, processes)) - before) / (time.monotonic() - began)

"""Analyses of slides: the queue, the worker, the engine, and how models are made."""

import sys

# OpenVINO reports its import, version and use to Google Analytics unless it can't find this package.
sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]  # None forbids the import

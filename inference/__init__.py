"""Analyses of slides: queue, workers, engine, training, and the command line."""

import sys

# OpenVINO sends usage data to Google Analytics if it can import this package.
sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]  # None forbids the import

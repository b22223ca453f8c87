"""The bundled model's INT8 form says what its fp32 form says, on real images with the real weights."""

from pathlib import Path

import pytest

from inference.engine import quantised
from inference.engine.checkpoint import CheckpointError, read_metadata
from inference.engine.quantised import MAX_SHIFT
from inference.engine.runtime import load
from tests.conftest import BUNDLED

CHECKPOINT = BUNDLED[-1]


def test_the_bundled_form_is_whole_and_passed_its_gate() -> None:
    record = quantised.read_record(CHECKPOINT)
    assert record is not None
    assert record.passed
    assert any("held-out" in one.what for one in record.comparisons)
    assert quantised.find(CHECKPOINT, read_metadata(CHECKPOINT)[1])


def test_it_agrees_with_fp32_on_the_demonstration_images(data: Path) -> None:
    """The gate again, on this machine. Where the processor has no VNNI, INT8 refuses itself."""
    if not quantised.has_vnni():
        with pytest.raises(CheckpointError, match="VNNI"):
            load(CHECKPOINT, "int8")
        return
    from inference.learning.dataset import read_demo
    from inference.learning.optimise import slides
    from inference.learning.quantise import compare

    found = compare(CHECKPOINT, slides(read_demo(data)), "demonstration images")
    assert found.slides == 15
    assert found.shift <= MAX_SHIFT
    assert found.passed


def test_the_machine_chooses_what_agreed() -> None:
    expected = "openvino-cpu-int8" if quantised.has_vnni() else "openvino-cpu-fp32"
    assert load(CHECKPOINT, "cpu").name == expected

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

    # As a worker gets it: one that came out wrong is made anew.
    found = compare(CHECKPOINT, slides(read_demo(data)), "demonstration images")
    assert found.slides == 15
    assert found.shift <= MAX_SHIFT
    assert found.passed


def test_the_machine_chooses_what_agreed() -> None:
    expected = "openvino-cpu-int8" if quantised.has_vnni() else "openvino-cpu-fp32"
    assert load(CHECKPOINT, "cpu").name == expected


def test_an_int8_network_that_came_out_wrong_is_made_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    """OpenVINO now and then makes one of wrong numbers where the process had other networks before."""
    if not quantised.has_vnni():
        return  # it keeps to fp32
    record = quantised.read_record(CHECKPOINT)
    assert record is not None and len(record.probe) == 8
    right, made = quantised.answer, []

    def wrong_at_first(infer: object, batch_size: int) -> tuple[float, ...]:
        found = right(infer, batch_size)  # type: ignore[arg-type]
        made.append(found)
        return tuple(value + 4.8 for value in found) if len(made) <= wrong else found

    monkeypatch.setattr(quantised, "answer", wrong_at_first)
    wrong = 2
    assert load(CHECKPOINT, "int8").name == "openvino-cpu-int8" and len(made) >= 3
    made.clear()
    wrong = 99
    assert load(CHECKPOINT, "int8").name == "openvino-cpu-fp32"

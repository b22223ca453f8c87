"""The bundled model's INT8 form agrees with fp32 on real images."""

from pathlib import Path

import pytest

from inference.engine import quantised
from inference.engine.checkpoint import CheckpointError, read_metadata
from inference.engine.quantised import MAX_SHIFT
from inference.engine.runtime import OpenVinoRuntime, load
from tests.conftest import BUNDLED

CHECKPOINT = BUNDLED[-1]


def test_the_bundled_form_is_intact_and_passed_its_comparison() -> None:
    record = quantised.read_record(CHECKPOINT)
    assert record is not None
    assert record.passed
    assert any("held-out" in one.what for one in record.comparisons)
    assert quantised.find(CHECKPOINT, read_metadata(CHECKPOINT)[1])


def test_it_agrees_with_fp32_on_the_demonstration_images(data: Path) -> None:
    """Repeats the comparison on this machine. Without VNNI, requesting INT8 is an error."""
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


def test_the_default_runtime_is_one_that_passed() -> None:
    digest = read_metadata(CHECKPOINT)[1]
    form = quantised.fastest(
        quantised.passed(CHECKPOINT, digest), vnni=quantised.has_vnni(), amx_bf16=quantised.has_amx_bf16()
    )
    made = load(CHECKPOINT, "cpu")
    assert (made.name, made.problems) == (f"openvino-cpu-{form}", [])


@pytest.mark.slow
def test_a_hundred_int8_networks_pass_their_self_test() -> None:
    """A network compiled for several streams was wrong in 6 % of loads; see docs/model/openvino-int8-race.md."""
    if not quantised.has_vnni():
        pytest.skip("this processor has no VNNI instructions, so INT8 is not used on it")
    record = quantised.read_record(CHECKPOINT)
    assert record is not None and len(record.probe) == 8
    graph_file = quantised.path_of(CHECKPOINT, "xml")
    assert all(OpenVinoRuntime(CHECKPOINT, graph_file=graph_file).passes_self_test(record) for _ in range(100))

"""A faster runtime is used only if it is whole, belongs to the checkpoint, and agreed."""

import dataclasses
from pathlib import Path

import pytest

from inference.engine import quantised
from inference.engine.checkpoint import CheckpointError, read_metadata, sha256
from inference.engine.quantised import Comparison, Record
from inference.engine.runtime import load

AGREES = Comparison("demo", 15, shift=0.012, mean_shift=0.004, verdicts=0, logit_shift=0.1, auc_shift=0.001)


@pytest.fixture(autouse=True)
def vnni(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is decided does not depend on the processor that the tests run on."""
    monkeypatch.setattr(quantised, "has_vnni", lambda: True)


@pytest.fixture
def checkpoint(tmp_path: Path, random_checkpoint: Path) -> Path:
    """A checkpoint with files beside it that bear the right checksums."""
    path = tmp_path / "model.safetensors"
    path.symlink_to(random_checkpoint)
    quantised.path_of(path, "xml").write_text("<net/>")
    quantised.path_of(path, "bin").write_bytes(b"weights")
    return path


def record(path: Path, **changes: object) -> Record:
    xml, weights = quantised.path_of(path, "xml"), quantised.path_of(path, "bin")
    whole = Record(sha256(path), sha256(xml), sha256(weights), "test", (AGREES,))
    return dataclasses.replace(whole, **changes)  # type: ignore[arg-type]


def found(path: Path) -> Path | None:
    return quantised.find(path, read_metadata(path)[1])


def test_what_agrees_and_is_whole_is_used(checkpoint: Path) -> None:
    record(checkpoint).write(checkpoint)
    assert found(checkpoint) == quantised.path_of(checkpoint, "xml")


def test_without_a_record_it_is_not(checkpoint: Path) -> None:
    assert found(checkpoint) is None
    quantised.path_of(checkpoint, "json").write_text("{")
    assert found(checkpoint) is None


@pytest.mark.parametrize("changes", [{"shift": 0.021}, {"auc_shift": -0.003}])
def test_what_disagreed_is_not(checkpoint: Path, changes: dict[str, float]) -> None:
    worse = dataclasses.replace(AGREES, **changes)
    record(checkpoint, comparisons=(AGREES, worse)).write(checkpoint)
    assert found(checkpoint) is None


def test_an_altered_or_foreign_graph_is_not(checkpoint: Path) -> None:
    record(checkpoint, checkpoint_sha256="0" * 64).write(checkpoint)
    assert found(checkpoint) is None
    record(checkpoint).write(checkpoint)
    quantised.path_of(checkpoint, "bin").write_bytes(b"other weights")
    assert found(checkpoint) is None


def test_asked_for_by_name_it_is_refused_with_a_reason(random_checkpoint: Path) -> None:
    with pytest.raises(CheckpointError, match="no INT8 form"):
        load(random_checkpoint, "int8")
    assert load(random_checkpoint, "cpu").name == "openvino-cpu-fp32"


def test_a_processor_without_vnni_keeps_to_fp32(random_checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quantised, "has_vnni", lambda: False)
    with pytest.raises(CheckpointError, match="VNNI"):
        load(random_checkpoint, "int8")
    assert load(random_checkpoint, "cpu").name == "openvino-cpu-fp32"

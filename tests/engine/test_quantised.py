"""INT8 and bf16 are used only if their files are intact, belong to the checkpoint, and passed the comparison."""

import dataclasses
import json
from pathlib import Path

import pytest

from inference.engine import quantised
from inference.engine.checkpoint import CheckpointError, read_metadata, sha256
from inference.engine.quantised import Comparison, Record
from inference.engine.runtime import load

AGREES = Comparison("demo", 15, shift=0.012, mean_shift=0.004, verdicts=0, logit_shift=0.1, auc_shift=0.001)


@pytest.fixture(autouse=True)
def vnni(monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes the tests independent of the processor."""
    monkeypatch.setattr(quantised, "has_vnni", lambda: True)


@pytest.fixture
def checkpoint(tmp_path: Path, random_checkpoint: Path) -> Path:
    """A checkpoint with INT8 files whose checksums are correct."""
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


def test_an_intact_form_that_passed_is_used(checkpoint: Path) -> None:
    record(checkpoint).write(checkpoint)
    assert found(checkpoint) == quantised.path_of(checkpoint, "xml")


def test_a_form_without_a_record_is_not_used(checkpoint: Path) -> None:
    assert found(checkpoint) is None
    quantised.path_of(checkpoint, "json").write_text("{")
    assert found(checkpoint) is None


@pytest.mark.parametrize("changes", [{"shift": 0.021}, {"auc_shift": -0.003}])
def test_a_form_that_did_not_pass_is_not_used(checkpoint: Path, changes: dict[str, float]) -> None:
    worse = dataclasses.replace(AGREES, **changes)
    record(checkpoint, comparisons=(AGREES, worse)).write(checkpoint)
    assert found(checkpoint) is None


def test_a_changed_graph_is_not_used(checkpoint: Path) -> None:
    record(checkpoint, checkpoint_sha256="0" * 64).write(checkpoint)
    assert found(checkpoint) is None
    record(checkpoint).write(checkpoint)
    quantised.path_of(checkpoint, "bin").write_bytes(b"other weights")
    assert found(checkpoint) is None


def test_requesting_an_unusable_form_is_an_error_with_a_reason(random_checkpoint: Path) -> None:
    with pytest.raises(CheckpointError, match="no INT8 form"):
        load(random_checkpoint, "int8")
    assert load(random_checkpoint, "cpu").name == "openvino-cpu-fp32"


BF16 = Record("", "", "", "test", (AGREES,), form="bf16")


def test_bf16_needs_only_a_record(checkpoint: Path) -> None:
    digest = sha256(checkpoint)
    assert quantised.passed(checkpoint, digest) == set()
    dataclasses.replace(BF16, checkpoint_sha256=digest).write(checkpoint)
    assert quantised.passed(checkpoint, digest) == {"bf16"}
    record(checkpoint).write(checkpoint)
    assert quantised.passed(checkpoint, digest) == {"bf16", "int8"}
    worse = dataclasses.replace(AGREES, shift=0.03)
    dataclasses.replace(BF16, checkpoint_sha256=digest, comparisons=(worse,)).write(checkpoint)
    assert quantised.passed(checkpoint, digest) == {"int8"}


@pytest.mark.parametrize(
    ("passed", "vnni", "amx_bf16", "chosen"),
    [
        ({"int8", "bf16"}, True, True, "bf16"),
        ({"int8"}, True, True, "int8"),
        ({"bf16"}, True, False, "fp32"),
        ({"int8", "bf16"}, True, False, "int8"),
        ({"int8", "bf16"}, False, False, "fp32"),
        (set(), True, True, "fp32"),
    ],
)
def test_the_fastest_form_that_passed_and_that_the_processor_can_run(
    passed: set[str], vnni: bool, amx_bf16: bool, chosen: str
) -> None:
    assert quantised.fastest(passed, vnni=vnni, amx_bf16=amx_bf16) == chosen


def test_damaged_files_are_reported(checkpoint: Path) -> None:
    digest = sha256(checkpoint)
    assert quantised.problem(checkpoint, digest, "int8") is None, "a checkpoint needs no other form"
    record(checkpoint).write(checkpoint)
    assert quantised.problem(checkpoint, digest, "int8") is None
    assert "another checkpoint" in (quantised.problem(checkpoint, "0" * 64, "int8") or "")
    quantised.path_of(checkpoint, "bin").write_bytes(b"other")
    assert "model.int8.bin does not have the checksum" in (quantised.problem(checkpoint, digest, "int8") or "")
    quantised.path_of(checkpoint, "bin").unlink()
    assert "model.int8.bin is missing" in (quantised.problem(checkpoint, digest, "int8") or "")
    whole = json.loads(quantised.path_of(checkpoint, "json").read_text())
    no_number = {**whole, "comparisons": [{**whole["comparisons"][0], "shift": "0.1"}]}
    for text in ("{", "[]", '{"comparisons": 3}', json.dumps({**whole, "probe": [1.0]}), json.dumps(no_number)):
        quantised.path_of(checkpoint, "json").write_text(text)
        assert "can't be read" in (quantised.problem(checkpoint, digest, "int8") or ""), text
        assert quantised.passed(checkpoint, digest) == set()


@pytest.mark.parametrize("form", quantised.FORMS)
def test_a_damaged_form_is_named_by_the_runtime_that_takes_its_place(
    form: quantised.Form, random_checkpoint: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "model.safetensors"
    path.symlink_to(random_checkpoint)
    quantised.path_of(path, "json", form).write_text("{")
    with caplog.at_level("ERROR"):
        made = load(path, "cpu")
    assert made.name == "openvino-cpu-fp32"
    assert made.problems == [f"model.{form}.json or a file that it refers to can't be read (JSONDecodeError)."]
    assert made.problems[0] in caplog.text
    assert load(path, "fp32").problems == [], "nobody asked for the faster form"


def test_a_network_that_fails_its_self_test_is_not_used(
    random_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The fp32 graph replaces the INT8 graph; its outputs differ from the record, as after a wrong compilation."""
    import openvino as ov

    from inference.engine import graph
    from inference.engine.checkpoint import load_arrays

    path = tmp_path / "model.safetensors"
    path.symlink_to(random_checkpoint)
    model = graph.build(load_arrays(path), read_metadata(path)[0], 2)
    ov.save_model(model, quantised.path_of(path, "xml"), compress_to_fp16=False)
    right = load(path, "fp32")
    said = quantised.probe_logits(right.infer, right.batch_size)
    record(path, probe=said).write(path)
    made = load(path, "int8")
    assert (made.name, made.problems) == ("openvino-cpu-int8", [])
    record(path, probe=tuple(value + 4.8 for value in said)).write(path)
    with caplog.at_level("ERROR"):
        made = load(path, "int8")
    assert made.name == "openvino-cpu-fp32" and "failed its self-test" in made.problems[0]
    assert made.problems[0] in caplog.text


def test_a_processor_without_vnni_uses_fp32(random_checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quantised, "has_vnni", lambda: False)
    with pytest.raises(CheckpointError, match="VNNI"):
        load(random_checkpoint, "int8")
    assert load(random_checkpoint, "cpu").name == "openvino-cpu-fp32"

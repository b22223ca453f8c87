"""Properties that hold for every input: names, checkpoints, results."""

from __future__ import annotations

import json
import struct
import unicodedata
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from cases.images.intake import clean_name
from inference.engine import verdict
from inference.engine.checkpoint import CheckpointError, load_arrays, read_metadata

anything = settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
probabilities = st.floats(0, 1, allow_nan=False)


@given(st.text(max_size=600))
@anything
@example(".\x85")
@example("a" * 254 + " b")
@example("a/ ..")
def test_any_file_name_is_harmless(name: str) -> None:
    cleaned = clean_name(name)
    assert 0 < len(cleaned) <= 255
    assert not {"/", "\\"} & set(cleaned)
    assert not [char for char in cleaned if unicodedata.category(char).startswith("C")]
    assert clean_name(cleaned) == cleaned


@given(st.binary(max_size=2000))
@anything
def test_any_bytes_are_a_checkpoint_or_rejected(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "any.safetensors"
    path.write_bytes(content)
    with pytest.raises(CheckpointError):
        read_metadata(path)


@given(st.integers(0, 2**64 - 1), st.binary(max_size=400))
@anything
def test_any_false_header_length_is_rejected(tmp_path: Path, length: int, rest: bytes) -> None:
    path = tmp_path / "any.safetensors"
    path.write_bytes(struct.pack("<Q", length) + rest)
    with pytest.raises(CheckpointError):
        read_metadata(path)
    with pytest.raises(CheckpointError):
        load_arrays(path)


json_values = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=10), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.sampled_from(["__metadata__", "conv1.weight", "fc.bias", "x"]), json_values, max_size=4))
@anything
def test_any_header_is_rejected(tmp_path: Path, header: dict[str, object]) -> None:
    path = tmp_path / "any.safetensors"
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text)
    with pytest.raises(CheckpointError):
        read_metadata(path)


@given(st.lists(probabilities, min_size=1, max_size=300))
@anything
def test_the_mean_is_bounded_and_independent_of_order(values: list[float]) -> None:
    table = np.array([[1 - p, p] for p in values], dtype=np.float32)
    mean = verdict.mean_probability(table)
    assert table[:, 1].min() - 1e-6 <= mean <= table[:, 1].max() + 1e-6
    assert verdict.mean_probability(table[::-1]) == pytest.approx(mean, abs=1e-9)


@given(st.lists(probabilities, max_size=50), probabilities, probabilities)
@anything
def test_a_case_result_follows_from_the_mean(values: list[float], one: float, other: float) -> None:
    low, high = sorted((one, other))
    found = verdict.case_verdict(values, low, high)
    if not values:
        assert (found.verdict, found.confidence) == ("out_of_domain", 0.0)
        return
    p = found.probability_malignant
    expected = "benign" if p < low else "malignant" if p > high else "indeterminate"
    assert found.verdict == expected
    assert found.confidence == max(p, 1 - p) >= 0.5
    assert verdict.case_verdict(values[::-1], low, high) == found, "the order does not matter"

"""Runs schemathesis on the whole OpenAPI document, against a real server with a real worker."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.live.conftest import Stack, start, stop
from tests.live.test_api_clients import sign_in

pytestmark = [pytest.mark.live, pytest.mark.slow]

HERE = Path(__file__).parent
#: Seconds. CI tries the same inputs every time; HISTOPATH_FUZZ_SECONDS searches others, for as long as it says.
BUDGET = os.environ.get("HISTOPATH_FUZZ_SECONDS", "120")
MANNER = [] if "HISTOPATH_FUZZ_SECONDS" in os.environ else ["--generation-deterministic"]


@pytest.fixture(scope="module")
def open_stack(tmp_path_factory: pytest.TempPathFactory, model_dir: Path) -> Iterator[Stack]:
    """A server without rate limits, and with a low limit on files per call so that the limit is tested."""
    rates = dict.fromkeys(("API_RATE_ANON", "API_RATE_USER", "API_RATE_PREDICT", "API_RATE_SIGN_IN"), "100000/min")
    running = start(
        tmp_path_factory.mktemp("fuzz"), model_dir,
        UPLOAD_MAX_FILES="5", API_WAIT_SECONDS="10", MAX_PENDING="100000", MAX_PENDING_PER_USER="100000", **rates,
    )  # fmt: skip
    yield running
    stop(running)


@pytest.fixture(scope="module")
def tokens(open_stack: Stack) -> list[str]:
    """Tokens created beforehand, because wrong passwords during the run lock the address."""
    return [sign_in(open_stack), sign_in(open_stack)]


@pytest.mark.parametrize(
    ("choice", "budget"),
    # Revoking is tested separately, because it would end the token that all other calls use.
    [("--exclude-operation-id", BUDGET), ("--include-operation-id", "15")],
)
def test_schemathesis_finds_nothing(
    open_stack: Stack, tokens: list[str], tmp_path: Path, choice: str, budget: str
) -> None:
    command = [
        str(Path(sys.executable).parent / "st"), "--config-file", str(HERE / "schemathesis.toml"),
        "run", f"{open_stack.url}/schema", "--header", f"Authorization: Token {tokens.pop()}",
        "--max-time", budget, "--continue-on-failure", "--warnings", "off", *MANNER, choice, "tokens_revoke",
    ]  # fmt: skip
    env = {**os.environ, "PYTHONPATH": str(HERE), "SCHEMATHESIS_HOOKS": "schemathesis_hooks"}
    done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stdout[-15_000:] + done.stderr[-2_000:]

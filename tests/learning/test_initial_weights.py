"""Named initial weights, with files of the published layout from a local server."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch
from django.core.management import CommandError, call_command
from torchvision.models import resnet50

from inference.engine.checkpoint import CheckpointError, read_metadata
from inference.learning import initial_weights
from inference.learning.features import trunk_network
from inference.learning.initial_weights import SOURCES, LicenceError, download, resolve
from inference.learning.layer4 import bypasses_layer4


class Handler(SimpleHTTPRequestHandler):
    """Serves a folder; ``cut.torch`` ends before its announced length."""

    def log_message(self, *args: object) -> None: ...

    def do_GET(self) -> None:
        if not self.path.endswith("cut.torch"):
            return super().do_GET()
        self.send_response(200)
        self.send_header("Content-Length", "1000")
        self.end_headers()
        self.wfile.write(b"x" * 10)
        self.close_connection = True
        return None


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``lunit.torch``, a ResNet50 without a head, and ``imagenet.pth``, a ResNet50 with a thousand classes."""
    folder = tmp_path_factory.mktemp("published")
    torch.manual_seed(0)
    state = resnet50(weights=None).state_dict()
    torch.save(state, folder / "imagenet.pth")
    torch.save({k: v for k, v in state.items() if not k.startswith("fc.")}, folder / "lunit.torch")
    torch.save({"conv1.weight": torch.zeros(3)}, folder / "other.torch")
    return folder


@pytest.fixture(scope="module")
def server(published: Path) -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(published))) as running:
        thread = threading.Thread(target=running.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{running.server_port}/"
        running.shutdown()
        thread.join()


@pytest.fixture
def named(server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, file in (("lunit-bt", "lunit.torch"), ("lunit-swav", "cut.torch"), ("lunit-mocov2", "other.torch")):
        monkeypatch.setitem(SOURCES, name, replace(SOURCES[name], url=server + file))
    monkeypatch.setitem(SOURCES, "imagenet-v2", replace(SOURCES["imagenet-v2"], url=server + "imagenet.pth"))


def test_a_named_network_is_downloaded_once(named: None, published: Path, tmp_path: Path) -> None:
    said: list[str] = []
    trunk = resolve("lunit-bt", tmp_path, accept_licence=True, say=said.append)
    digest = hashlib.sha256((published / "lunit.torch").read_bytes()).hexdigest()
    assert any("non-commercial" in line for line in said)
    assert any("of" in line and "MB" in line for line in said) and any(digest in line for line in said)
    said.clear()
    assert resolve("lunit-bt", tmp_path, accept_licence=True, sha256=digest, say=said.append) == trunk
    assert not any("MB" in line for line in said), "it is not downloaded again"

    network, metadata = trunk_network(trunk)
    expected = torch.load(published / "lunit.torch", weights_only=True)["layer4.2.conv3.weight"]
    assert torch.allclose(network.layer4[2].conv3.weight, expected, atol=1e-3) and not bypasses_layer4(network)
    assert metadata.mean == initial_weights.LUNIT_MEAN
    assert (metadata.stride_in, metadata.stem_pool) == ("conv2", "padded")
    provenance = metadata.training["trunk"]
    assert provenance["sha256"] == digest and "non-commercial" in provenance["licence"]
    assert read_metadata(trunk)[0].training == provenance


def test_a_licence_must_be_accepted(named: None, tmp_path: Path) -> None:
    with pytest.raises(LicenceError, match="non-commercial"):
        resolve("lunit-bt", tmp_path)
    assert not list(tmp_path.iterdir())
    with pytest.raises(CommandError, match="--accept-licence"):
        call_command("pretrain", data=tmp_path, weights="lunit-bt", out=tmp_path / "out", weights_cache=tmp_path)


def test_a_file_that_is_not_the_published_one_is_rejected(named: None, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="SHA-256"):
        resolve("imagenet-v2", tmp_path, say=lambda _: None)
    assert not list(tmp_path.iterdir()), "nothing of it stays"
    with pytest.raises(CheckpointError, match=r"first differences|shape"):
        resolve("lunit-mocov2", tmp_path, accept_licence=True, say=lambda _: None)


def test_a_broken_download_leaves_nothing(named: None, tmp_path: Path) -> None:
    with pytest.raises(OSError, match=r"ended after|IncompleteRead"):
        download(SOURCES["lunit-swav"], tmp_path, lambda _: None)
    assert not list(tmp_path.iterdir())
    with pytest.raises(CommandError, match="could not be downloaded"):
        call_command("train", weights="lunit-swav", accept_licence=True, weights_cache=tmp_path, out=tmp_path / "out")


def test_the_head_of_a_local_file_is_dropped(published: Path, tmp_path: Path) -> None:
    trunk = resolve(str(published / "imagenet.pth"), tmp_path, say=lambda _: None)
    network, _ = trunk_network(trunk)
    assert network.fc.weight.shape == (2, 2048) and not network.fc.weight.any()
    wrong = "0" * 64
    with pytest.raises(CheckpointError, match=wrong):
        resolve(str(published / "imagenet.pth"), tmp_path, sha256=wrong)


def test_folders_and_checkpoints_are_used_unchanged(tmp_path: Path, random_checkpoint: Path) -> None:
    assert resolve(str(tmp_path), tmp_path) == tmp_path
    assert resolve(str(random_checkpoint), tmp_path) == random_checkpoint

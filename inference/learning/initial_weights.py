"""Published initial weights: downloaded once, verified, and converted to a checkpoint.

They are not part of this project, and none of its metrics were measured with them.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from inference.engine.checkpoint import IMAGENET_MEAN, IMAGENET_STD, CheckpointError, Metadata, save
from inference.engine.network import FEATURES, build, load_state
from inference.engine.upstream import read_state

Say = Callable[[str], None]
CHUNK = 1 << 20
TIMEOUT = 60
#: Normalisation of the patches that the networks of Kang et al. were trained on.
LUNIT_MEAN = (0.70322989, 0.53606487, 0.66096631)
LUNIT_STD = (0.21716536, 0.26081574, 0.20723464)
LUNIT = "https://github.com/lunit-io/benchmark-ssl-pathology/releases/download/pretrained-weights/"
LUNIT_TERMS = "non-commercial research only (licence of lunit-io/benchmark-ssl-pathology)"


class LicenceError(ValueError):
    """The licence of the weights was not accepted; the message states it."""


@dataclass(frozen=True)
class Source:
    """Published weights of a ResNet50 with torchvision's key names and strides.

    ``digest`` is the beginning of the file's SHA-256 if its authors publish it, otherwise empty. If ``restricted``, the
    user must accept the ``licence``.
    """

    url: str
    licence: str
    cite: str
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD
    digest: str = ""
    restricted: bool = False


def _lunit(file: str, method: str) -> Source:
    return Source(
        LUNIT + file,
        LUNIT_TERMS,
        f"Kang et al., CVPR 2023 ({method}, 19 million patches)",
        LUNIT_MEAN,
        LUNIT_STD,
        restricted=True,
    )


#: The pathology network of Ciga et al. (2022) is not included, because its published weights are for a ResNet18.
SOURCES = {
    "imagenet-v2": Source(
        "https://download.pytorch.org/models/resnet50-11ad3fa6.pth",
        "BSD 3-Clause (torchvision)",
        "torchvision, ResNet50_Weights.IMAGENET1K_V2",
        digest="11ad3fa6",
    ),
    "lunit-bt": _lunit("bt_rn50_ep200.torch", "Barlow Twins"),
    "lunit-swav": _lunit("swav_rn50_ep200.torch", "SwAV"),
    "lunit-mocov2": _lunit("mocov2_rn50_ep200.torch", "MoCo v2"),
}


def default_cache() -> Path:
    return Path(os.environ.get("HISTOPATH_CACHE", Path.home() / ".cache" / "histopath"))


def resolve(
    weights: str, cache: Path, *, accept_licence: bool = False, sha256: str | None = None, say: Say = print
) -> Path:
    """The path that ``features.trunk_network`` needs, for a name in SOURCES, a file or a folder.

    A PyTorch file of a ResNet50 is converted to a checkpoint in ``cache``. ``sha256``, if given, is checked. Raises
    LicenceError, CheckpointError for a file of another kind or checksum, and OSError if the download fails.
    """
    path = Path(weights)
    source = SOURCES.get(weights)
    if source is None:
        if path.suffix not in (".pth", ".pt", ".torch", ".ckpt") or not path.is_file():
            return path
        source = Source(path.resolve().as_uri(), "as its authors state it", f"local file {path.name}")
    else:
        say(f"{weights}: {source.cite}. Licence: {source.licence}.")
        if source.restricted and not accept_licence:
            raise LicenceError(
                f"{weights} has a restricted licence: {source.licence}. To accept it, add --accept-licence."
            )
        path = download(source, cache, say)
    digest = _checked(path, source, sha256)
    trunk = cache / f"{path.stem}-{digest[:12]}.safetensors"
    if not trunk.exists():
        convert(path, source, digest, trunk)
    return trunk


def download(source: Source, cache: Path, say: Say = print) -> Path:
    """The file of a source in ``cache``, downloaded if necessary. Incomplete files never appear there.

    Raises OSError if the download fails, CheckpointError (``checksum``) if the file is not the published one.
    """
    cache.mkdir(parents=True, exist_ok=True)
    path = cache / source.url.rpartition("/")[2]
    if path.exists():
        return path
    handle, temporary = tempfile.mkstemp(dir=cache, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file, urllib.request.urlopen(source.url, timeout=TIMEOUT) as answer:  # noqa: S310
            size = int(answer.headers.get("Content-Length", 0))
            done = told = 0
            while chunk := answer.read(CHUNK):
                file.write(chunk)
                done += len(chunk)
                if size and done * 10 // size > told:
                    told = done * 10 // size
                    say(f"{path.name}: {done / 1e6:.0f} of {size / 1e6:.0f} MB")
        if size and done != size:
            raise OSError(f"{path.name}: the connection ended after {done} of {size} bytes")
        digest = _checked(Path(temporary), source, None)
        say(f"{path.name}: SHA-256 {digest}")
        os.replace(temporary, path)
    finally:
        Path(temporary).unlink(missing_ok=True)
    return path


def _checked(path: Path, source: Source, sha256: str | None) -> str:
    with open(path, "rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if not digest.startswith(source.digest) or (sha256 and digest != sha256.lower()):
        expected = sha256 or f"{source.digest}..."
        raise CheckpointError("checksum", f"{path.name} has SHA-256 {digest}, not {expected}.")
    return digest


def convert(path: Path, source: Source, digest: str, out: Path) -> None:
    """Convert a PyTorch state dict of a ResNet50 to a checkpoint with a zero head.

    Only tensors are unpickled. Raises CheckpointError if the file is not a ResNet50.
    """
    arrays = {name: value for name, value in read_state(path).items() if not name.startswith("fc.")}
    arrays |= {"fc.weight": np.zeros((2, FEATURES), np.float32), "fc.bias": np.zeros(2, np.float32)}
    notes = {"start": source.cite, "licence": source.licence, "source": source.url, "sha256": digest}
    metadata = Metadata("histopath-trunk", "0", mean=source.mean, std=source.std, training=notes)
    load_state(build(metadata), arrays)
    save(out, arrays, metadata)

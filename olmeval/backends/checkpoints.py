"""Finding checkpoints, and telling them apart by content."""

import hashlib
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from olmeval.errors import CorruptFileError, UserError
from olmeval.files import read_json, sha256_file, sha256_json

SERVER_URL = re.compile(r"^https?://", re.IGNORECASE)
HUB_ID = re.compile(r"^[\w.-]+/[\w.-]+$")
# Larger weight files are fingerprinted by evenly spaced blocks instead of every byte.
HASH_WHOLE_BELOW = 1 << 30
BLOCK, BLOCKS = 1 << 20, 64


@dataclass(frozen=True)
class Checkpoint:
    """A model to evaluate: ``source`` is a folder, hub id or server's URL, ``name`` its name."""

    name: str
    source: str
    metadata: dict[str, Any] = field(default_factory=dict)

    @property
    def folder(self) -> Path | None:
        """The local folder; None for a hub id or URL."""
        path = Path(self.source)
        return path if path.is_dir() else None


def find_checkpoints(model: str | Path) -> list[Checkpoint]:
    """The checkpoints that ``model`` names: a folder, a folder of ``step*`` folders, a hub id, URL.

    A URL (``http://HOST:PORT/v1``) is a completions server's, which is asked for its model. Steps
    are ordered by number. Raises :class:`UserError` when nothing is there.
    """
    if SERVER_URL.match(str(model)):
        from olmeval.backends.server_models import find_served

        return [find_served(str(model))]
    path = Path(model).expanduser()
    if path.is_dir():
        if (path / "config.json").exists():
            return [checkpoint_in(path)]
        steps = sorted(
            (p for p in path.glob("step*") if (p / "config.json").exists()), key=_step_number
        )
        if steps:
            return [checkpoint_in(step) for step in steps]
        # A folder of runs: every run's steps, run by run.
        runs = sorted({p.parent.parent for p in path.glob("*/step*/config.json")})
        if runs:
            return [found for run in runs for found in find_checkpoints(run)]
        raise UserError(
            f"'{path}' holds no checkpoint: neither config.json nor step<N>/config.json is there"
        )
    if path.exists():
        raise UserError(f"'{path}' is a file; name the folder that holds config.json and weights")
    if HUB_ID.match(str(model)) and not str(model).startswith("."):
        return [Checkpoint(name=str(model).split("/")[1], source=str(model))]
    raise UserError(
        f"checkpoint '{model}' does not exist; give a folder, a hub id (org/name) or a server's URL"
    )


def _step_number(path: Path) -> tuple[int, str]:
    digits = re.search(r"\d+", path.name)
    return (int(digits.group()) if digits else -1, path.name)


def checkpoint_in(path: Path) -> Checkpoint:
    """The checkpoint in the folder ``path``, named after its run and step."""
    metadata: dict[str, Any] = {}
    if (path / "checkpoint.json").exists():
        metadata = read_json(path / "checkpoint.json")
    resolved = path.resolve()
    is_step = re.fullmatch(r"step\d+(-\w+)?", resolved.name) is not None
    name = f"{resolved.parent.name}-{resolved.name}" if is_step else resolved.name
    if is_step and "step" not in metadata:
        metadata["step"] = _step_number(resolved)[0]
    return Checkpoint(name=name, source=str(path), metadata=metadata)


def fingerprint(checkpoint: Checkpoint) -> str:
    """Hex SHA-256 that identifies configuration and weights by content.

    Weight files under 1 GiB are hashed whole; of larger ones the size, the header and 64 evenly
    spaced blocks of 1 MiB. A truncated or unreadable file is a :class:`CorruptFileError`.
    """
    folder = checkpoint.folder
    if folder is None:
        return _hub_fingerprint(checkpoint.source)
    weights = sorted([*folder.glob("*.safetensors"), *folder.glob("pytorch_model*.bin")])
    if not weights:
        raise UserError(f"'{folder}' holds no weights (model.safetensors); is the copy complete?")
    for file in weights:
        if file.suffix == ".safetensors":
            _check_safetensors(file)
    parts = {file.name: _hash_weights(file) for file in weights}
    parts["config.json"] = sha256_file(folder / "config.json")
    return sha256_json(parts)


def _hub_fingerprint(model: str) -> str:
    from huggingface_hub import snapshot_download

    try:
        local = snapshot_download(model, allow_patterns=["*.json", "*.safetensors", "*.model"])
    except Exception as error:
        raise UserError(
            f"cannot fetch '{model}' from the hub ({type(error).__name__}); download it and give "
            "the folder, or check the name and the network"
        ) from error
    return fingerprint(Checkpoint(name=model, source=local))


def _check_safetensors(file: Path) -> None:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, framework="np"):
            pass
    except (SafetensorError, OSError) as error:
        raise CorruptFileError(
            f"'{file}' is truncated or corrupt ({error}); copy it again"
        ) from None


def _hash_weights(file: Path) -> str:
    size = file.stat().st_size
    if size < HASH_WHOLE_BELOW:
        return sha256_file(file)
    digest = hashlib.sha256(str(size).encode())
    with file.open("rb") as stream:
        for k in range(BLOCKS):
            stream.seek((size - BLOCK) * k // (BLOCKS - 1))
            digest.update(stream.read(BLOCK))
    return digest.hexdigest()

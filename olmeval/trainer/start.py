"""The checkpoint that a run begins with: what it is, and whether it fits.

What is begun is a run of its own: an anneal, a later stage, a longer context. Its steps, tokens and
schedule count from zero. It is told from others by the content of the checkpoint, so that this may
be moved.
"""

import hashlib
from pathlib import Path

from olmeval.errors import UserError
from olmeval.files import read_json, sha256_file, sha256_json
from olmeval.trainer.model_config import ModelConfig
from olmeval.trainer.recipe_spec import StartSpec
from olmeval.trainer.shards import Manifest

PART = 1 << 20  # bytes at the start, the middle and the end of a file that identify it


def start_config(spec: StartSpec) -> ModelConfig:
    """Sizes of the checkpoint. Raises :class:`UserError` if it is none, or of another kind."""
    path = spec.checkpoint / "config.json"
    if not path.is_file():
        raise UserError(
            f"start.checkpoint '{spec.checkpoint}' has no config.json; give the folder of a step, "
            "such as runs/first/step200, or of a released model"
        )
    if spec.optimizer and not (spec.checkpoint / "train_state").is_dir():
        raise UserError(
            f"start.checkpoint '{spec.checkpoint}' has no train_state; leave start.optimizer out"
        )
    from transformers import AutoConfig

    # Released models leave out what is the default of their class.
    found = AutoConfig.from_pretrained(spec.checkpoint, trust_remote_code=False).to_dict()
    return ModelConfig.from_hf(found, str(path))


def check_tokenizer(spec: StartSpec, root: Path, manifest: Manifest) -> None:
    """Raises :class:`UserError` if the checkpoint was trained on other tokens than the data's."""
    theirs = spec.checkpoint / "tokenizer.json"
    if not theirs.is_file() or sha256_file(theirs) == manifest.tokenizer.sha256:
        return
    ours = root / manifest.tokenizer.path / "tokenizer.json"
    # Whoever saves a tokenizer again writes other bytes.
    if read_json(theirs).get("model") != read_json(ours).get("model"):
        raise UserError(
            f"start.checkpoint '{spec.checkpoint}' has another tokenizer than the data in "
            f"'{root}'; build the data with the checkpoint's"
        )


def start_rate(spec: StartSpec) -> float:
    """The learning rate at which the checkpoint was made. Raises :class:`UserError`."""
    path = spec.checkpoint / "checkpoint.json"
    rate = read_json(path).get("lr") if path.is_file() else None
    if rate is None:
        raise UserError(
            f"start.checkpoint '{spec.checkpoint}' does not say at which learning rate it was "
            "made; give optimizer.lr"
        )
    return float(rate)


def identity(spec: StartSpec) -> str:
    """Tells weights apart by their content: a hash of names, sizes, and parts of each file."""
    found = {}
    for path in weight_files(spec.checkpoint):
        size = path.stat().st_size
        with path.open("rb") as file:
            digest = hashlib.sha256()
            for begin in (0, size // 2, max(0, size - PART)):
                file.seek(begin)
                digest.update(file.read(PART))
        found[path.name] = [size, digest.hexdigest()]
    return sha256_json(found)


def weight_files(folder: Path) -> list[Path]:
    """The files with the weights of a model; :class:`UserError` if there are none."""
    found = sorted(folder.glob("model*.safetensors"))
    if not found:
        raise UserError(f"start.checkpoint '{folder}' has no model.safetensors")
    return found

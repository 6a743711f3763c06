"""Code that lies in a checkpoint is never run, also not when transformers would ask a person."""

import contextlib
import json
import shutil
from pathlib import Path

import pytest

from olmeval.backends.checkpoints import find_checkpoints
from olmeval.backends.describe import load_model_config
from olmeval.backends.tokenization import Tokenizer
from olmeval.errors import UserError


@pytest.fixture
def foreign(checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkpoint with Python for configuration and tokenizer, and someone who always says yes."""
    folder = tmp_path / "foreign"
    shutil.copytree(checkpoint, folder)
    module = f"from pathlib import Path\nPath({str(tmp_path / 'ran')!r}).touch()\n"
    module += "from transformers import PretrainedConfig\n"
    module += "class Mine(PretrainedConfig):\n    model_type = 'mine'\n"
    (folder / "mine.py").write_text(module)
    config = json.loads((folder / "config.json").read_text())
    config |= {"model_type": "mine", "auto_map": {"AutoConfig": "mine.Mine"}}
    (folder / "config.json").write_text(json.dumps(config))
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    settings |= {"tokenizer_class": "Mine", "auto_map": {"AutoTokenizer": ["mine.Mine", None]}}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    monkeypatch.setattr("builtins.input", lambda *_: "y")
    return folder


def test_a_configuration_that_is_code(foreign: Path) -> None:
    with pytest.raises(UserError, match="no code of a checkpoint is run here; serve the model"):
        load_model_config(find_checkpoints(foreign)[0])
    assert not foreign.with_name("ran").exists()


def test_a_tokenizer_that_is_code(foreign: Path) -> None:
    with contextlib.suppress(UserError):
        Tokenizer.load(foreign)
    assert not foreign.with_name("ran").exists()

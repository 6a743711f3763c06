"""What is said of a model that cannot be read."""

from pathlib import Path

import pytest
import transformers

from olmeval.backends.checkpoints import find_checkpoints
from olmeval.backends.describe import load_model_config
from olmeval.errors import UserError


def test_a_mistyped_folder_is_not_only_a_hub_id(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def absent(*_: object, **__: object) -> None:
        raise OSError("We couldn't connect to the hub.\nMore lines.")

    monkeypatch.setattr(transformers.AutoConfig, "from_pretrained", absent)
    (tmp_path / "checkpoints/first").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    (checkpoint,) = find_checkpoints("checkpoints/firts")
    with pytest.raises(UserError) as said:
        load_model_config(checkpoint)
    assert str(said.value) == (
        "'checkpoints/firts' is no folder here, and as a hub id it cannot be read "
        "(We couldn't connect to the hub); did you mean 'checkpoints/first'?"
    )
    (checkpoint,) = find_checkpoints("org/model")
    with pytest.raises(UserError, match=r"'org/model' is no folder here.*the hub\)$"):
        load_model_config(checkpoint)

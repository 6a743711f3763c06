"""Finding a tokenizer and its end-of-document token, and copying it."""

import json
from pathlib import Path

import pytest

from olmeval.errors import UserError
from olmeval.trainer.build_tokenizer import find_tokenizer, load_tokenizer
from tests.trainer.data_builds import EOS, EOS_ID, save_tokenizer


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A tokenizer as transformers saves it."""
    folder = tmp_path / "model"
    folder.mkdir()
    save_tokenizer(folder / "tokenizer.json", extra=2)
    config = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": EOS, "kept": True}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    (folder / "special_tokens_map.json").write_text(json.dumps({"eos_token": EOS}))
    (folder / "model.safetensors").write_text("large")
    return folder


@pytest.mark.parametrize("name", ["", "tokenizer.json"])
def test_a_folder_or_its_file(folder: Path, tmp_path: Path, name: str) -> None:
    found = find_tokenizer(str(folder / name))
    assert (found.eos, found.eos_id, found.vocab_size) == (EOS, EOS_ID, 259)
    info = found.copy_to(tmp_path / "data")
    copied = {path.name for path in (tmp_path / "data" / info.path).iterdir()}
    assert copied == {"tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"}
    assert json.loads((tmp_path / "data/tokenizer/tokenizer_config.json").read_text())["kept"]
    assert info.id == (name or "model") and "/" not in info.id


@pytest.mark.parametrize("eos", [{"content": EOS, "lstrip": False}, None])
def test_other_places_of_the_end_token(folder: Path, eos: dict[str, object] | None) -> None:
    (folder / "tokenizer_config.json").write_text(json.dumps({"eos_token": eos}))
    assert find_tokenizer(str(folder)).eos == EOS


def test_another_end_token_is_the_one_that_models_get(folder: Path, tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    found = find_tokenizer(str(folder), eos="<extra1>")
    assert found.eos_id == 258
    found.copy_to(tmp_path)
    assert AutoTokenizer.from_pretrained(tmp_path / "tokenizer").eos_token == "<extra1>"
    assert "<extra1>" not in load_tokenizer(tmp_path, "<extra1>").encode("a<extra1>b").tokens


def test_whole_documents_are_encoded(folder: Path, tmp_path: Path) -> None:
    find_tokenizer(str(folder)).copy_to(tmp_path)
    assert len(load_tokenizer(tmp_path, EOS).encode("a" * 100).ids) == 100
    assert len(load_tokenizer(tmp_path, EOS).encode("a").ids) == 1


def test_refusals(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match="the token '<no>', which should end documents, is not in"):
        find_tokenizer(str(folder), eos="<no>")
    alone = save_tokenizer(tmp_path / "alone.json")
    with pytest.raises(UserError, match="does not say what ends a document; give eos"):
        find_tokenizer(str(alone))
    (folder / "tokenizer.json").write_text("{}")
    with pytest.raises(UserError, match=r"tokenizer\.json' is not a tokenizer: "):
        find_tokenizer(str(folder))
    (folder / "tokenizer.json").unlink()
    with pytest.raises(UserError, match=r"model' has no tokenizer\.json"):
        find_tokenizer(str(folder))


def test_the_hub(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

    def download(name: str, file: str) -> str:
        if name != "org/model":
            raise LocalEntryNotFoundError("no connection\nand no cache")
        if file == "special_tokens_map.json":
            raise EntryNotFoundError("not there")
        return str(folder / file)

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    found = find_tokenizer("org/model")
    assert (found.name, found.eos, found.others) == ("org/model", EOS, ())
    with pytest.raises(
        UserError, match=r"'org/other' is neither a file nor a folder, .* no connec"
    ):
        find_tokenizer("org/other")

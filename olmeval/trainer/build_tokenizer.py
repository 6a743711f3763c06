"""The tokenizer of a build: found, copied into the data folder, loaded by the workers."""

import shutil
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from olmeval.errors import UserError
from olmeval.files import make_dir, read_json, sha256_file, write_json
from olmeval.trainer.shards import TokenizerInfo

if TYPE_CHECKING:
    from tokenizers import Tokenizer

FILE = "tokenizer.json"
CONFIG = "tokenizer_config.json"
MAP = "special_tokens_map.json"
FOLDER = "tokenizer"  # of the data folder


@dataclass(frozen=True)
class BuildTokenizer:
    """A tokenizer by its files. ``vocab_size`` is one more than the largest id."""

    name: str
    file: Path
    others: tuple[Path, ...]
    config: dict[str, Any]
    sha256: str
    eos: str
    eos_id: int
    vocab_size: int

    def copy_to(self, root: Path) -> TokenizerInfo:
        """Writes the tokenizer into a data folder, so that transformers loads it from there."""
        folder = make_dir(root / FOLDER)
        try:
            shutil.copyfile(self.file, folder / FILE)
            for other in self.others:
                shutil.copyfile(other, folder / other.name)
        except OSError as error:
            raise UserError(f"cannot write '{folder}': {error.strerror}") from None
        write_json(folder / CONFIG, self.config)
        return TokenizerInfo(id=self.name, sha256=self.sha256, path=FOLDER)


def find_tokenizer(name: str, eos: str | None = None) -> BuildTokenizer:
    """The tokenizer in a file, a folder or a model of the hub.

    ``eos`` replaces the end-of-document token that its configuration names. Raises
    :class:`UserError` when there is no tokenizer, or no such token.
    """
    file, others = _locate(name)
    config: dict[str, Any] = {"tokenizer_class": "PreTrainedTokenizerFast"}
    special: dict[str, Any] = {}
    for other in others:
        if other.name == CONFIG:
            config = read_json(other)
        elif other.name == MAP:
            special = read_json(other)
    known = _content(config.get("eos_token")) or _content(special.get("eos_token"))
    chosen = eos or known
    if chosen is None:
        raise UserError(f"the tokenizer '{name}' does not say what ends a document; give eos")
    tokenizer = _load(file)
    eos_id = tokenizer.token_to_id(chosen)
    if eos_id is None:
        raise UserError(f"the token '{chosen}', which should end documents, is not in '{name}'")
    if chosen != known:
        # A model that is trained on the shards must stop at their token, not at the other one.
        config = {**config, "eos_token": chosen}
        others = tuple(other for other in others if other.name != MAP)
    return BuildTokenizer(
        name=name if not Path(name).exists() else Path(name).resolve().name,
        file=file,
        others=tuple(other for other in others if other.name != CONFIG),
        config=config,
        sha256=sha256_file(file),
        eos=chosen,
        eos_id=eos_id,
        vocab_size=max(tokenizer.get_vocab().values()) + 1,
    )


@lru_cache(maxsize=1)
def load_tokenizer(root: Path, eos: str) -> "Tokenizer":
    """The tokenizer of a data folder, set up so that no text can produce the token ``eos``."""
    from tokenizers import AddedToken

    tokenizer = _load(root / FOLDER / FILE)
    tokenizer.add_special_tokens([AddedToken(eos, special=True, normalized=False)])
    tokenizer.encode_special_tokens = True
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def _load(file: Path) -> "Tokenizer":
    from tokenizers import Tokenizer

    try:
        return Tokenizer.from_file(str(file))
    # The library raises nothing more specific.
    except Exception as error:
        raise UserError(f"'{file}' is not a tokenizer: {error}") from None


def _locate(name: str) -> tuple[Path, tuple[Path, ...]]:
    """``tokenizer.json`` and the files that describe it."""
    path = Path(name).expanduser()
    if path.is_file():
        folder = path.parent if path.name == FILE else None
        return path, _beside(folder) if folder else ()
    if path.is_dir():
        if not (path / FILE).is_file():
            raise UserError(
                f"'{path}' has no {FILE}; give a folder that transformers' fast tokenizers load"
            )
        return path / FILE, _beside(path)
    return _hub(name)


def _beside(folder: Path) -> tuple[Path, ...]:
    return tuple(folder / name for name in (CONFIG, MAP) if (folder / name).is_file())


def _hub(name: str) -> tuple[Path, tuple[Path, ...]]:
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError, HFValidationError

    def get(file: str) -> Path:
        return Path(hf_hub_download(name, file))

    try:
        file, others = get(FILE), []
        for other in (CONFIG, MAP):
            try:
                others.append(get(other))
            except EntryNotFoundError:
                continue
    except (HfHubHTTPError, HFValidationError, OSError) as error:
        reason = str(error).strip().splitlines()[0]
        raise UserError(
            f"tokenizer '{name}' is neither a file nor a folder, and the hub does not give it: "
            f"{reason}"
        ) from None
    return file, tuple(others)


def _content(token: Any) -> str | None:
    """The text of a token, which is a string or an object in configurations."""
    if isinstance(token, dict):
        token = token.get("content")
    return token if isinstance(token, str) else None

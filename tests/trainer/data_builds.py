"""What the tests of builds share: a tokenizer whose ids are plain to see, and inputs."""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

from olmeval.config import parse_config
from olmeval.trainer.build import BuildResult, build_data
from olmeval.trainer.build_spec import BuildSpec
from olmeval.trainer.shards import load_manifest, open_domain

EOS = "<|end|>"
EOS_ID = 256
WEB = ["the first page", "another", "a third one, longer than the others"]
CODE = ["x = 1", "def f(): pass"]


def save_tokenizer(path: Path, extra: int = 0, special: bool = True) -> Path:
    """A byte-level tokenizer without merges: 256 ids by the code point of each byte's character,
    then EOS, then ``extra`` tokens."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE({char: i for i, char in enumerate(alphabet)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_tokens([AddedToken(EOS, special=special, normalized=False)])
    tokenizer.add_tokens([f"<extra{i}>" for i in range(extra)])
    # A build must encode whole documents, whatever a tokenizer was saved with.
    tokenizer.enable_truncation(5)
    tokenizer.enable_padding(length=8)
    tokenizer.save(str(path))
    return path


def documents(texts: list[str], **fields: Any) -> list[dict[str, Any]]:
    return [{"text": text, **fields} for text in texts]


def ids(text: str) -> list[int]:
    """Tokens of ASCII text and EOS: 33 to 126 stand for themselves, in order, after nothing."""
    order = {char: i for i, char in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    return [order[" Ġ"[1] if char == " " else char] for char in text] + [EOS_ID]


def write_jsonl(path: Path, records: Iterable[dict[str, Any]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


def build_spec(tokenizer: Path, *sources: str | dict[str, Any], **more: Any) -> BuildSpec:
    """A specification, as YAML would give it."""
    listed = [{"path": source} if isinstance(source, str) else source for source in sources]
    value = {"tokenizer": str(tokenizer), "eos": EOS, "sources": listed, **more}
    return parse_config(json.dumps(value), BuildSpec, "build.yaml")


def contents(root: Path) -> dict[str, list[int]]:
    """All tokens of every domain, after a check of every byte."""
    manifest = load_manifest(root, "hash")
    return {
        domain: np.concatenate(open_domain(root, manifest, domain)).tolist()
        for domain in manifest.domains
    }


def expected(texts: Sequence[str]) -> list[int]:
    return [token for text in texts for token in ids(text)]


def tree(root: Path) -> dict[str, bytes]:
    """Every file below a folder."""
    return {
        path.relative_to(root).as_posix(): path.read_bytes()
        for path in sorted(root.rglob("*"))
        if path.is_file()
    }


def run(spec: Any, root: Path, **options: Any) -> BuildResult:
    return build_data(spec, root, progress=False, **options)

"""Encodes many texts that begin alike without encoding the beginning each time.

Byte-level BPE tokenizers cut a text into words from left to right with a regular expression and
encode each word by itself, so encoding can restart where a word certainly begins: at a letter
after a line break. Texts are cut at all such places, and each distinct piece is encoded once:
few-shot prompts, passages and options are shared line by line. Tokenizers that are not built that
way are recognised and get whole texts; a sample of the texts is encoded both ways besides.
"""

import json
import re
from collections.abc import Callable, Iterable, Sequence
from itertools import chain, islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

Tokens = NDArray[np.int32]
# Texts to the ids of each, without special tokens.
Encode = Callable[[Sequence[str]], list[list[int]]]

RESTART = re.compile(r"\n(?=[A-Za-z])")
# Stands for whatever letter follows a piece: white space before a letter is cut into words in
# another way than at the end of a text.
NEXT = "\nA"
# So many texts are encoded both ways.
CHECKED = 32
# So many pieces are handed over at a time; what tokenizers return takes far more than the ids.
AT_ONCE = 4096
# What makes a regular expression look at the text before its match.
LOOKS_BACK = re.compile(r"\(\?<|\\[bBAG]|(?<![\[\\])\^")


class Pieces:
    """Distinct pieces of texts, each encoded once: first :meth:`add`, then :meth:`encode`."""

    def __init__(self, encode: Encode, shared: bool):
        self._encode = encode
        self._shared = shared
        self._number: dict[str, int] = {}
        self._ids: Tokens = np.zeros(0, np.int32)
        self._bounds: list[tuple[int, int]] = []

    def cut(self, text: str) -> list[str]:
        """``text`` where encoding can restart; joined by line breaks they are the text."""
        return RESTART.split(text) if self._shared else [text]

    def add(self, pieces: list[str]) -> list[int]:
        """Takes the pieces of a text; their numbers stand for its ids."""
        *inner, last = pieces
        number = self._number
        found = [number.setdefault(piece + NEXT, len(number)) for piece in inner]
        found.append(number.setdefault(last, len(number)))
        return found

    def encode(self) -> None:
        """Encodes all that was added."""
        texts = iter(self._number)
        ids, lengths = [], []
        while batch := list(islice(texts, AT_ONCE)):
            found = self._encode(batch)
            lengths += [len(piece) for piece in found]
            ids.append(np.fromiter(chain.from_iterable(found), np.int32))
        self._ids = np.concatenate([self._ids, *ids])
        ends = np.cumsum(lengths, dtype=np.int64)
        # The last piece of a text has no restart in it, so this is an inner one.
        inner = [self._shared and text.endswith(NEXT) for text in self._number]
        begins = ends - lengths
        self._bounds = list(zip(begins.tolist(), (ends - inner).tolist(), strict=True))
        self._number = {}

    def ids(self, numbers: list[int]) -> Tokens:
        """Ids of the text whose pieces have these numbers."""
        if len(numbers) == 1:
            begin, end = self._bounds[numbers[0]]
            return self._ids[begin:end]
        return np.concatenate([self._ids[a:b] for a, b in map(self._bounds.__getitem__, numbers)])


def encode_all(encode: Encode, texts: Iterable[str], shared: bool) -> list[Tokens]:
    """Ids of each text, with common pieces encoded once where ``shared``."""
    pieces = Pieces(encode, shared)
    numbers = [pieces.add(pieces.cut(text)) for text in texts]
    pieces.encode()
    return [pieces.ids(of_text) for of_text in numbers]


def shares(encode: Encode, texts: Sequence[str]) -> bool:
    """Whether a sample of ``texts`` has the same ids in pieces as whole."""
    picked = texts[:: max(len(texts) // CHECKED, 1)][:CHECKED]
    split = encode_all(encode, picked, shared=True)
    return [ids.tolist() for ids in split] == encode(picked)


def can_share(backend: Any) -> bool:
    """Whether a ``tokenizers.Tokenizer`` is a BPE whose words depend on nothing before them."""
    spec = json.loads(backend.to_str())
    if spec["model"]["type"] != "BPE" or spec["model"].get("dropout"):
        return False
    if spec["normalizer"] is not None and spec["normalizer"]["type"] != "NFC":
        return False
    added = [token["content"] for token in spec["added_tokens"]]
    if any("\n" in text or re.match("[A-Za-z]", text) for text in added):
        return False
    pre = spec["pre_tokenizer"]
    steps = [] if pre is None else pre.get("pretokenizers", [pre])
    return (
        any(map(_makes_words, steps))
        and all(map(_restarts, steps))
        and len(backend.encode(NEXT[-1], add_special_tokens=False).ids) == 1
    )


def _makes_words(step: dict[str, Any]) -> bool:
    by_bytes = step["type"] == "ByteLevel" and step.get("use_regex", True)
    return bool(step["type"] == "Split" or by_bytes)


def _restarts(step: dict[str, Any]) -> bool:
    if step["type"] == "ByteLevel":
        return step["add_prefix_space"] is False
    if step["type"] == "Split":
        pattern = step["pattern"].get("Regex", "")
        return bool(pattern) and LOOKS_BACK.search(pattern) is None
    return bool(step["type"] == "Digits")

"""Encodes many texts that begin alike without encoding the beginning each time.

Byte-level BPE tokenizers cut a text into words from left to right with a regular expression and
encode each word by itself, so encoding can restart where a word certainly begins: at a letter
after a line break. Few-shot prompts share hundreds of tokens up to such a place. Tokenizers that
are not built that way are recognised and encoded whole; each shared beginning is checked on texts
of its group besides.
"""

import json
from collections.abc import Sequence
from typing import Any

# Beginnings shorter than this are not worth sharing.
MIN_PREFIX = 128
CHECKED = 4


def encode(backend: Any, texts: Sequence[str]) -> list[list[int]]:
    """Ids of each text, encoded whole. ``backend`` is a ``tokenizers.Tokenizer``."""
    return [e.ids for e in backend.encode_batch_fast(list(texts), add_special_tokens=False)]


def encode_shared(backend: Any, texts: Sequence[str]) -> list[list[int]]:
    """As :func:`encode`, for a tokenizer that :func:`can_share`, with common beginnings once."""
    order = sorted(range(len(texts)), key=texts.__getitem__)
    heads: list[list[int]] = [[]] * len(texts)
    tails = list(texts)
    for members, common in _groups(texts, order):
        at = _restart(texts[members[0]], common)
        if at < MIN_PREFIX or len(members) <= CHECKED:
            continue
        head = _head(backend, texts[members[0]], at)
        picked = [texts[k] for k in members[:: max(len(members) // CHECKED, 1)]]
        whole = encode(backend, picked)
        split = encode(backend, [text[at:] for text in picked])
        if head is None or whole != [head + tail for tail in split]:
            continue
        for k in members:
            heads[k], tails[k] = head, texts[k][at:]
    return [head + tail for head, tail in zip(heads, encode(backend, tails), strict=True)]


def can_share(backend: Any) -> bool:
    """Whether the tokenizer is a BPE whose words depend only on what is before and inside them."""
    spec = json.loads(backend.to_str())
    if spec["model"]["type"] != "BPE" or spec["model"].get("dropout"):
        return False
    if spec["normalizer"] is not None and spec["normalizer"]["type"] != "NFC":
        return False
    if any("\n" in token["content"] for token in spec["added_tokens"]):
        return False
    pre = spec["pre_tokenizer"]
    steps = [] if pre is None else pre.get("pretokenizers", [pre])
    return bool(steps) and all(_restarts(step) for step in steps)


def _restarts(step: dict[str, Any]) -> bool:
    if step["type"] == "ByteLevel":
        return step["add_prefix_space"] is False
    if step["type"] == "Split":
        pattern = step["pattern"].get("Regex", "")
        return bool(pattern) and "(?<" not in pattern
    return bool(step["type"] == "Digits")


def _groups(texts: Sequence[str], order: list[int]) -> list[tuple[list[int], int]]:
    """Runs of sorted texts with at least MIN_PREFIX characters in common: (members, how many)."""
    groups: list[tuple[list[int], int]] = []
    for place, k in enumerate(order):
        common = _common(texts[order[place - 1]], texts[k]) if place else 0
        if groups and common >= MIN_PREFIX:
            members, least = groups[-1]
            members.append(k)
            groups[-1] = (members, min(least, common))
        else:
            groups.append(([k], len(texts[k])))
    return groups


def _common(a: str, b: str) -> int:
    """Length of the common prefix, by bisection."""
    low, high = 0, min(len(a), len(b))
    while low < high:
        middle = (low + high + 1) // 2
        if a.startswith(b[:middle]):
            low = middle
        else:
            high = middle - 1
    return low


def _restart(text: str, common: int) -> int:
    """The last place before ``common`` where a letter follows a line break; 0 if there is none."""
    at = text.rfind("\n", 0, max(common - 1, 0)) + 1
    while at > 0 and not (text[at].isascii() and text[at].isalpha()):
        at = text.rfind("\n", 0, at - 1) + 1
    return at


def _head(backend: Any, text: str, at: int) -> list[int] | None:
    """Ids of ``text[:at]`` as they are inside the whole text; None if a token straddles ``at``."""
    encoding = backend.encode(text, add_special_tokens=False)
    count = sum(1 for begin, _ in encoding.offsets if begin < at)
    straddles = count > 0 and encoding.offsets[count - 1][1] > at
    return None if straddles else list(encoding.ids[:count])

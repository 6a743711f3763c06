"""Token boundaries of what a run asked, proven by the key of the answer.

A run stores texts and a hash of the exact token ids, not the ids. The model's tokenizer, where it
still lies, gives them again; when their hash is the stored one, they are the very ids.
"""

import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from olmeval.errors import UserError
from olmeval.requests import Request

if TYPE_CHECKING:
    from olmeval.backends.tokenization import Tokenizer

REPLACEMENT = "\ufffd"
# Tokenizers kept in memory; a hundred checkpoints mostly have one and the same.
KEPT = 4


@dataclass(frozen=True)
class Window:
    """The ids that the model saw at once, as pieces of text: given ones, then scored ones.

    ``cut``: how many tokens of the context did not fit. ``key`` is that of the answer.
    """

    key: bytes
    context: list[str]
    scored: list[str]
    cut: int


class Tokenizers:
    """Finds the tokenizer of a run: its model's folder, else one of ``folders``."""

    def __init__(self, folders: Sequence[Path] = ()):
        self.folders = list(folders)
        self._lock = threading.Lock()
        self._loaded: dict[tuple[str, str, str], Tokenizer | None] = {}

    def windows(
        self, info: dict[str, Any], request: Request, key: bytes, others: Iterable[str] = ()
    ) -> list[Window] | None:
        """The windows of a request (one, but for long documents) of the run ``info``.

        The ids are those that were asked: their key is ``key``. None where no tokenizer at hand
        gives that key. ``others`` are folders of further models to try.
        """
        model, asked = info["model"], info.get("asked") or {}
        bos = _bos(info)
        with self._lock:  # a tokenizer serves one thread at a time
            for place in self._places(info, others):
                for model_type in ("", "gemma") if bos == "standard" else ("",):
                    tokenizer = self._load(place, bos, model_type)
                    if tokenizer is None:
                        break
                    found = _windows(
                        tokenizer,
                        request,
                        int(model["max_length"]),
                        int(asked.get("window_overlap") or 0),
                    )
                    if found and found[0].key == key:
                        return found
        return None

    def prepare(self, info: dict[str, Any]) -> None:
        """Loads the run's tokenizer, which takes seconds the first time."""
        with self._lock:
            for place in self._places(info):
                if self._load(place, _bos(info), ""):
                    return

    def _places(self, info: dict[str, Any], others: Iterable[str] = ()) -> list[str]:
        asked = info.get("asked") or {}
        places = [asked.get("tokenizer"), info["model"].get("path"), *self.folders, *others]
        return list(dict.fromkeys(str(place) for place in places if place))

    def _load(self, place: str, bos: str, model_type: str) -> "Tokenizer | None":
        name = (place, bos, model_type)
        if name not in self._loaded:
            while len(self._loaded) >= KEPT:
                del self._loaded[next(iter(self._loaded))]
            self._loaded[name] = _load(place, bos, model_type)
        return self._loaded[name]


def _bos(info: dict[str, Any]) -> str:
    settings = info["model"].get("settings") or {}
    return str((info.get("asked") or {}).get("bos") or settings.get("bos") or "standard")


def _load(place: str, bos: str, model_type: str) -> "Tokenizer | None":
    """A tokenizer that lies on this machine: a folder, or what the hub's cache has of it."""
    from transformers import AutoTokenizer

    from olmeval.backends.tokenization import Tokenizer

    try:
        # A page that shows stored results asks no network, and runs no code of a model's folder.
        found = AutoTokenizer.from_pretrained(place, local_files_only=True, trust_remote_code=False)
        return Tokenizer(found, bos, model_type)  # type: ignore[arg-type]
    except (OSError, ValueError, KeyError, UserError):
        return None


def _windows(
    tokenizer: "Tokenizer", request: Request, max_length: int, overlap: int
) -> list[Window]:
    import numpy as np

    from olmeval.engine.prepare import prepare

    try:
        prepared = prepare(
            [request], np.zeros(1, np.int64), 1, tokenizer, max_length, 1, 0, overlap
        )
    except UserError:
        return []
    if request.kind == "generate":
        (key,) = prepared.prompt_keys
        ids = list(prepared.prompts[key].ids)
        return [Window(key, pieces(tokenizer, ids), [], int(prepared.prompt_cut[0]))]
    rows = prepared.rows
    cuts = rows.truncated[prepared.fits].tolist()
    found: list[Window | None] = [None] * len(prepared.fits)
    sequences = prepared.plan.sequences
    for at, unique in enumerate(prepared.plan.unique_of.tolist()):
        low, high = sequences.offsets[unique : unique + 2].tolist()
        given = int(sequences.context_len[unique])
        text = pieces(tokenizer, sequences.ids[low:high].tolist())
        found[at] = Window(prepared.keys[unique], text[:given], text[given:], cuts[at])
    return [window for window in found if window is not None]


def pieces(tokenizer: "Tokenizer", ids: Sequence[int]) -> list[str]:
    """The text that each id adds; together they are the text of ``ids``.

    A character may be spread over several tokens: the one that completes it has it, and those
    before it are empty.
    """
    texts: list[str] = []
    begin = done = 0  # the text of ids[begin:done] is out; some ids before it tell how it joins
    for at in range(1, len(ids) + 1):
        before, now = tokenizer.decode(ids[begin:done]), tokenizer.decode(ids[begin:at])
        if at < len(ids) and now.endswith(REPLACEMENT):
            texts.append("")
            continue
        texts.append(now[len(before) :])
        begin, done = done, at
    return texts


def joined(windows: Sequence[Window]) -> Window:
    """The windows of a document as one; what a later one sees again of an earlier is left out."""
    first = windows[0]
    return replace(first, scored=[text for window in windows for text in window.scored])

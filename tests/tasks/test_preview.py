from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from olmeval.errors import UserError
from olmeval.requests import Request
from olmeval.tasks.preview import load_tokenizer, preview, request_view, visible
from olmeval.tasks.registry import load_task


@pytest.fixture(scope="module")
def tokenizer(tokenizer_dir: Path):
    return load_tokenizer(tokenizer_dir)[0]


def view(tokenizer, context: str, continuation: str):
    return request_view(Request("loglikelihood", context, continuation), tokenizer, False)


@given(st.text(max_size=30), st.text(max_size=30))
def test_pieces_are_the_text_and_the_tokens(tokenizer, context: str, continuation: str) -> None:
    found = view(tokenizer, context, continuation)
    pieces = [*found.context, *found.continuation]
    assert "".join(piece.text for piece in pieces) == context + continuation
    whole = tokenizer.encode(context + continuation, add_special_tokens=False)
    assert [piece.token for piece in pieces] == whole.ids
    if not found.crossing:
        assert "".join(piece.text for piece in found.context) == context


def test_a_token_across_the_border_is_reported(tokenizer) -> None:
    (whole,) = tokenizer.encode(" the", add_special_tokens=False).ids
    found = view(tokenizer, " t", "he")
    assert found.crossing == " the" and [p.token for p in found.continuation] == [whole]
    assert view(tokenizer, "of", " the").crossing == ""


def test_white_space_is_visible() -> None:
    assert visible("a b\tc\r\nd") == "a·b→c␍↵\nd"


def test_preview_of_a_task(quiz: Path, tokenizer) -> None:
    task = load_task("quiz:0shot", task_paths=[quiz])
    first, second = preview(task, tokenizer, 2)
    assert (first.native_id, second.native_id) == ("a", "b")
    assert [request.is_gold for request in first.requests] == [False, True, False]
    assert "".join(p.text for p in first.requests[1].continuation) == "  4 "
    with pytest.raises(UserError, match="-n 0"):
        preview(task, tokenizer, 0)


def test_a_folder_without_tokenizer(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="holds no tokenizer"):
        load_tokenizer(tmp_path)
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(UserError, match=r"tokenizer\.json' is not a tokenizer"):
        load_tokenizer(tmp_path)

"""Hooks against values worked out by hand; the pulled data checks them at large (parity)."""

import random

from olmeval.tasks import hooks


def test_hellaswag_loses_its_markup() -> None:
    (doc,) = hooks.hellaswag(
        [
            {
                "ind": 3, "activity_label": "Health", "label": "1",
                "ctx_a": "Rest [header] Lie down. [title] Then [step] breathe",
                "ctx_b": "SLOWLY now",
                "endings": [" [substeps] a", "b [title] c"],
            }
        ]
    )  # fmt: skip
    assert doc["query"] == "Health: Rest Lie down. Then breathe Slowly now"
    assert doc["choices"] == [" a", "b. c"] and doc["stripped"] == ["a", "b. c"]
    assert (doc["id"], doc["gold"]) == (3, 1)


def test_sciq_keeps_the_answer_last_and_shuffles_by_index() -> None:
    row = {
        "question": "q", "support": "", "distractor1": "a", "distractor2": "b",
        "distractor3": "c", "correct_answer": "d",
    }  # fmt: skip
    docs = hooks.sciq([row, {**row, "support": "Text."}])
    for index, doc in enumerate(docs):
        letters = ["a", "b", "c", "d"]
        random.Random(index).shuffle(letters)
        assert doc["choices"] == ["a", "b", "c", "d"] and doc["gold"] == 3
        assert doc["shuffled"] == letters and letters[doc["shuffled_gold"]] == "d"
    assert [doc["passage"] for doc in docs] == ["", "Text.\n"]


def test_lab_bench_shuffles_by_id() -> None:
    (doc,) = hooks.lab_bench(
        [{"id": "u-1", "question": "q", "distractors": ["a", "b"], "ideal": "c"}]
    )
    expected = ["a", "b", "c"]
    random.Random("u-1").shuffle(expected)
    assert doc["shuffled"] == expected and expected[doc["shuffled_gold"]] == "c"


def test_lambada_splits_off_the_last_word() -> None:
    (doc,) = hooks.lambada([{"text": "one  two\nthree four"}])
    assert (doc["query"], doc["choices"], doc["gold"]) == ("one two three", ["four"], 0)


def test_gsm8k_solution() -> None:
    rows = [
        {"question": "q", "answer": "a is 2*3=<<2*3=6>>6\nso 1-well done.\n#### 1,006"},
        {"question": "q", "answer": "It is -4\n#### -4"},
    ]
    assert [doc["choices"] for doc in hooks.gsm8k(rows)] == [
        ["A is 2 * 3 = 6 so 1 - well done. So the answer is 1,006."],
        ["It is - 4. So the answer is - 4."],
    ]


def test_coqa_history_is_the_turns_before() -> None:
    turns = [{"question": "q0", "answer": "a0"}, {"question": "q1", "answer": "a1"}]
    row = {"story": "s", "question": "q", "source": "z", "answers": ["x"], "previous_qa": turns}
    first, second = hooks.coqa([{**row, "id": "z_turn0"}, {**row, "id": "z_turn1"}])
    assert first["history"] == ""
    assert second["history"] == "\n\nPreceding questions:\n\nQuestion: q0\nAnswer: a0"


def test_copycolors_rotates_every_answer_through_every_letter() -> None:
    row = {"id": 9, "query": "Question: What?\n A. x\n B. y\n C. z\nAnswer:", "gold": 1}
    docs = hooks.copycolors_cyclic([row])
    assert [doc["id"] for doc in docs] == [9, "9_shift1", "9_shift2"]
    assert [doc["choices"] for doc in docs] == [list("xyz"), list("yzx"), list("zxy")]
    assert [doc["choices"][doc["gold"]] for doc in docs] == ["y", "y", "y"]
    assert {doc["question"] for doc in docs} == {"What?"} and {doc["base"] for doc in docs} == {9}

"""Hooks against values worked out by hand; the pulled data checks them at large (parity)."""

import base64
import json
import os
import pickle
import random
import zlib

import pytest

from olmeval.errors import UserError
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


def test_drop_answers_are_numbers_spans_and_dates() -> None:
    empty = {"day": "", "month": "", "year": ""}
    answer = {"number": "", "date": {**empty, "day": "3", "year": "1999"}, "spans": []}
    row = {"query_id": "i", "passage": "p", "question": "q", "answer": answer}
    (doc,) = hooks.drop([row])
    assert doc["answers"] == [("3  1999",)]  # the text of the standard: an empty month between
    checked = {"number": ["", "7"], "date": [empty, empty], "spans": [["a", "b"], []]}
    (doc,) = hooks.drop([{**row, "validated_answers": checked}])
    assert doc["answers"][1:] == [("a", "b"), ("7",)]


def test_coqa_conversations_become_turns() -> None:
    row = {
        "id": "c", "source": "z", "story": "s",
        "questions": {"input_text": ["q0", "q1"]}, "answers": {"input_text": ["a0", "a1"]},
        "additional_answers": {"0": {"input_text": ["b0", "b1"]}},
    }  # fmt: skip
    first, second = hooks.coqa_conversations([row])
    assert (first["id"], first["answers"], first["history"]) == ("c_turn0", ["a0", "b0"], "")
    assert second["answers"] == ["a1", "b1"] and "Answer: a0" in second["history"]


def test_gsm_symbolic_instances_of_one_problem_have_names_of_their_own() -> None:
    row = {
        "id": 4,
        "instance": 2,
        "original_id": 9,
        "question": "q",
        "answer": "1+1=<<1+1=2>>2\n#### 2",
    }
    (doc,) = hooks.gsm_symbolic([row])
    assert (doc["id"], doc["original"], doc["answer"]) == ("4_2", 9, "2")
    assert doc["choices"] == ["1 + 1 = 2. So the answer is 2."]


def test_bbh_shots_are_the_blocks_of_a_prompt_file() -> None:
    think = "A: Let's think step by step.\n"
    text = f"canary\n-----\nSay.\n\nQ: one?\n{think}x\ny.\n\nQ: two?\n{think}z.\n"
    found = hooks.bbh_shots([{"text": text}])
    assert [(d["input"], d["solution"]) for d in found] == [("one?", "\nx\ny."), ("two?", "\nz.")]


def test_deepmind_math_without_the_marks_of_bytes() -> None:
    rows = [{"question": "b'1 + 1?\\n'", "answer": "b'2\\n'"}, {"question": "a", "answer": "b"}]
    found = hooks.deepmind_math(rows)
    assert [(d["question"], d["answer"]) for d in found] == [("1 + 1?", "2"), ("a", "b")]


def test_agi_eval_options_lose_their_letters_only() -> None:
    row = {"passage": "p", "question": "q", "options": ["(A)A man", "(B) Bo"], "label": "B"}
    (doc,) = hooks.agi_eval([row])
    assert (doc["question"], doc["choices"], doc["gold"]) == ("p\n\nq", ["A man", "Bo"], 1)


def test_ds1000_opens_a_fence_and_leaves_it_open() -> None:
    prompt = "P:\n<code>\nx = 1\n</code>\ny = ... # put solution in this variable\n"
    prompt += "BEGIN SOLUTION\n<code>\n"
    row = {"prompt": prompt, "reference_code": "y = 2\n", "code_context": "c",
           "metadata": {"problem_id": 3, "library": "Numpy"}}  # fmt: skip
    (doc,) = hooks.ds1000([row])
    assert doc["query"] == "P:\n```python\nx = 1\n\n# y = ... # put solution in this variable\n"
    assert doc["choices"] == ["y = 2"]


def test_mbpp_tests_are_those_of_the_standard_and_the_whole_ones() -> None:
    row = {"task_id": 1, "code": "x", "test_list": ["assert 1"], "test_setup_code": "y = 1"}
    (doc,) = hooks.mbpp([row])
    assert (doc["tests"], doc["whole_tests"]) == ("assert 1", "y = 1\nassert 1")


def test_lbpp_columns_are_unpacked_and_a_pickle_with_code_is_refused() -> None:
    def packed(value: object) -> str:
        kept = json.dumps(value) if isinstance(value, str | list) else value
        return base64.b64encode(zlib.compress(pickle.dumps(kept))).decode()

    row = {"task_id": "t/1", "instruction": "Do.", "completion": packed("x = 1"),
           "test_setup": packed("from code import f\nimport re"),
           "test_list": packed(["assert 1", "assert 2"])}  # fmt: skip
    (doc,) = hooks.lbpp([row])
    assert (doc["text"], doc["choices"]) == ("Do.", ["x = 1"])
    assert doc["tests"] == "import re\nassert 1\nassert 2"
    assert doc["shown"] in ("assert 1", "assert 2")
    with pytest.raises(UserError, match=r"holds 'posix\.getcwd', not plain text"):
        hooks.lbpp([{**row, "completion": packed(os.getcwd)}])

"""What a template cannot say: functions over the rows of one source, named in a ``reading``.

A hook takes the raw rows of a split, in order, and returns the documents (as many or more).
Rules are those of OLMES (github.com/allenai/olmes), told in our own code and checked against its
rendered requests (``parity.py``).
"""

import base64
import io
import json
import pickle
import random
import re
import zlib
from collections.abc import Callable, Sequence
from typing import Any

from olmeval.errors import UserError
from olmeval.tasks.hooks_code import humaneval_plus

Row = dict[str, Any]
Hook = Callable[[Sequence[Row]], list[Row]]


def hellaswag(rows: Sequence[Row]) -> list[Row]:
    """Text without the WikiHow mark-up; ``stripped`` are the choices that get letters."""
    documents = []
    for row in rows:
        choices = [_without_wikihow(ending) for ending in row["endings"]]
        query = f"{row['activity_label']}: {row['ctx_a']} {row['ctx_b'].capitalize()}"
        documents.append(
            {
                "id": row["ind"],
                "query": _without_wikihow(query),
                "choices": choices,
                "stripped": [choice.strip() for choice in choices],
                "gold": int(row["label"]),
            }
        )
    return documents


def _without_wikihow(text: str) -> str:
    text = text.replace(". [title]", ". ").replace(" [title]", ". ")
    # Doubled spaces are collapsed in one pass, so a run of three or more keeps some.
    return re.sub(r"\[.*?\]", "", text).replace("  ", " ")


def sciq(rows: Sequence[Row]) -> list[Row]:
    """Distractors then the answer; ``shuffled`` by the row's index for lettered choices."""
    return [
        {
            "id": index,
            "question": row["question"],
            "passage": f"{row['support']}\n".lstrip(),
            **_shuffled(
                [row[f"distractor{n}"] for n in (1, 2, 3)], row["correct_answer"], seed=index
            ),
        }
        for index, row in enumerate(rows)
    ]


def lab_bench(rows: Sequence[Row]) -> list[Row]:
    """Distractors then the answer; ``shuffled`` by the row's id for lettered choices."""
    return [
        {
            "id": row["id"],
            "question": row["question"],
            **_shuffled(list(row["distractors"]), row["ideal"], seed=row["id"]),
        }
        for row in rows
    ]


def _shuffled(distractors: list[str], answer: str, seed: int | str) -> Row:
    """Choices in both orders, with the index of the answer in each."""
    choices = [*distractors, answer]
    order = list(range(len(choices)))
    random.Random(seed).shuffle(order)
    return {
        "choices": choices,
        "gold": len(distractors),
        "shuffled": [choices[i] for i in order],
        "shuffled_gold": order.index(len(distractors)),
    }


def lambada(rows: Sequence[Row]) -> list[Row]:
    """All words but the last, and the last one; words are what whitespace separates."""
    documents = []
    for index, row in enumerate(rows):
        *words, last = row["text"].split()
        documents.append({"id": index, "query": " ".join(words), "choices": [last], "gold": 0})
    return documents


def gsm8k(rows: Sequence[Row]) -> list[Row]:
    """The solution without calculator marks, operators spaced, "So the answer is N." at its end."""
    documents = []
    for index, row in enumerate(rows):
        marked = re.sub(r"<<[^<>]*>>", "", row["answer"])
        solution, answer = (_spaced(part) for part in marked.rsplit("\n#### ", 1))
        solution = solution[:1].upper() + solution[1:]
        stop = "" if solution.endswith(".") else "."
        documents.append(
            {
                "id": index,
                "question": row["question"],
                "choices": [f"{solution}{stop} So the answer is {answer}."],
                "answer": row["answer"].rpartition("#### ")[2],
            }
        )
    return documents


def _spaced(text: str) -> str:
    # Every such character counts as an operator, also the hyphen of a word and a minus sign.
    return re.sub(r"\s+", " ", re.sub(r"[-+*/=]", r" \g<0> ", text)).strip()


def coqa(rows: Sequence[Row]) -> list[Row]:
    """``history``: the turns before this one, with their gold answers."""
    documents = []
    for row in rows:
        turn = int(row["id"].rpartition("_turn")[2])
        history = "".join(
            f"\n\nQuestion: {qa['question']}\nAnswer: {qa['answer']}"
            for qa in row["previous_qa"][:turn]
        )
        documents.append(
            {
                "id": row["id"],
                "source": row["source"],
                "answers": row["answers"],
                "story": row["story"],
                "history": f"\n\nPreceding questions:{history}" if history else "",
                "question": row["question"],
                "choices": row["answers"],
            }
        )
    return documents


def coqa_conversations(rows: Sequence[Row]) -> list[Row]:
    """Whole conversations, as the data set has them, into one document a turn, for :func:`coqa`.

    Accepted answers are the main one, then those of the other annotators.
    """
    turns = []
    for row in rows:
        answers = row["answers"]["input_text"]
        others = [o["input_text"] for o in (row.get("additional_answers") or {}).values()]
        questions = row["questions"]["input_text"]
        previous = [{"question": q, "answer": a} for q, a in zip(questions, answers, strict=True)]
        for turn, question in enumerate(questions):
            turns.append(
                {
                    "id": f"{row['id']}_turn{turn}",
                    "source": row["source"],
                    "story": row["story"],
                    "question": question,
                    "answers": [answers[turn], *(other[turn] for other in others)],
                    "previous_qa": previous,
                }
            )
    return coqa(turns)


def drop(rows: Sequence[Row]) -> list[Row]:
    """Accepted answers as tuples of spans: a number, spans, or a date as "day month year"."""
    documents = []
    for row in rows:
        checked = row.get("validated_answers") or {}
        fields = ("number", "date", "spans")
        others = zip(*(checked.get(field, ()) for field in fields), strict=True)
        found = [_drop_answer(row["answer"])]
        found += [_drop_answer(dict(zip(fields, other, strict=True))) for other in others]
        answers = list(dict.fromkeys(answer for answer in found if any(answer)))
        documents.append(
            {
                "id": row["query_id"],
                "passage": row["passage"],
                "question": row["question"],
                "choices": [answers[0]],
                "answers": answers,
            }
        )
    return documents


def _drop_answer(answer: Row) -> tuple[str, ...]:
    if answer["number"] != "":
        return (str(answer["number"]),)
    if answer["spans"]:
        return tuple(answer["spans"])
    date = answer["date"]
    return (" ".join([date["day"], date["month"], date["year"]]).strip(),)


def gsm_symbolic(rows: Sequence[Row]) -> list[Row]:
    """As :func:`gsm8k`, with a name for each instance and the problem that it was made from."""
    documents = gsm8k(rows)
    for document, row in zip(documents, rows, strict=True):
        document["id"] = f"{row['id']}_{row['instance']}"
        document["original"] = row["original_id"]
    return documents


def mbpp(rows: Sequence[Row]) -> list[Row]:
    """``shown``: one assert of the tests, drawn with the document's id as seed; ``tests``: all.

    OLMES draws the assert without a seed, so no two of its runs need show the same prompt, and
    leaves out the set-up code that one problem's tests need; ``whole_tests`` has it.
    """
    documents = []
    for row in rows:
        setup = row.get("test_setup_code") or ""
        documents.append(
            {
                **row,
                "id": str(row["task_id"]),
                "choices": [row["code"]],
                "shown": random.Random(f"{row['task_id']}").choice(row["test_list"]),
                "tests": "\n".join(row["test_list"]),
                "whole_tests": "\n".join([*([setup] if setup else []), *row["test_list"]]),
            }
        )
    return documents


def agi_eval(rows: Sequence[Row]) -> list[Row]:
    """The passage before the question; options without their own "(A)"."""
    return [
        {
            "id": index,
            "question": f"{row['passage']}\n\n{row['question']}"
            if row["passage"]
            else row["question"],
            "choices": [re.sub(r"^\s*\([A-E]\)\s*", "", option) for option in row["options"]],
            "gold": "ABCDE".index(row["label"]),
        }
        for index, row in enumerate(rows)
        if row["label"]
    ]


def bbh_shots(rows: Sequence[Row]) -> list[Row]:
    """Question and worked solution of the blocks in a published prompt file.

    A block is "Q: question", "A: Let's think step by step.", solution; blocks are separated by
    blank lines, and what stands before the first one is not part of any.
    """
    blocks = re.split(r"\n\n(?=Q: )", str(rows[0]["text"]).strip())
    mark = "\nA: Let's think step by step."
    found = [block.removeprefix("Q: ").partition(mark) for block in blocks if mark in block]
    return [
        {"id": index, "input": question, "solution": solution, "target": ""}
        for index, (question, _, solution) in enumerate(found)
    ]


def deepmind_math(rows: Sequence[Row]) -> list[Row]:
    """Text without the marks of Python bytes (``b'...\\n'``) that some copies of the data have."""
    return [
        {"id": index, **{k: _unquoted(row[k]) for k in ("question", "answer")}}
        for index, row in enumerate(rows)
    ]


def _unquoted(text: str) -> str:
    return re.sub(r"\\n'$", "", re.sub(r"^b'", "", str(text))).strip()


def ds1000(rows: Sequence[Row]) -> list[Row]:
    """The prompt with Python fences for code tags; the line that says where to put the solution
    becomes a comment inside the open fence."""
    documents = []
    for row in rows:
        text = row["prompt"].replace("\nBEGIN SOLUTION\n<code>\n", "\n")
        text = text.replace("    ### BEGIN SOLUTION", "")
        text = text.replace("<code>", "```python").replace("</code>", "```")
        lines: list[str] = []
        for line in text.split("\n"):
            if "put solution" in line:
                if lines and lines[-1].strip() == "```":
                    lines.pop()
                line = f"\n# {line}"
            lines.append(line)
        documents.append(
            {
                "id": row["metadata"]["problem_id"],
                "query": "\n".join(lines).rstrip("\n") + "\n",
                "choices": [row["reference_code"].rstrip("\n")],
                "context": row["code_context"],
                "library": row["metadata"]["library"],
            }
        )
    return documents


def lbpp(rows: Sequence[Row]) -> list[Row]:
    """As :func:`mbpp`; the hub's copy has some columns packed (base64, zlib, pickle, JSON).

    The first line of a problem's set-up imports the function from a module ``code``, which the
    function here stands in front of instead; OLMES drops the first line, whatever it is.
    """
    return [
        {
            **document,
            "text": document["instruction"],
            "tests": document["whole_tests"].partition("\n")[2],
        }
        for document in mbpp(
            [
                {
                    **row,
                    "code": _unpacked(row["completion"]),
                    "test_setup_code": _unpacked(row["test_setup"]),
                    "test_list": _unpacked(row["test_list"]),
                }
                for row in rows
            ]
        )
    ]


class _PlainUnpickler(pickle.Unpickler):
    """Reads text and lists; a pickle that names anything else could run code, and is refused."""

    def find_class(self, module: str, name: str) -> Any:
        raise UserError(f"a packed column holds '{module}.{name}', not plain text")


def _unpacked(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    try:
        packed = zlib.decompress(base64.b64decode(value, validate=True))
    except (ValueError, zlib.error):
        return value  # plain text, as a person's own copy may have it
    plain = _PlainUnpickler(io.BytesIO(packed)).load()
    return json.loads(plain) if isinstance(plain, str) else plain


def copycolors(rows: Sequence[Row]) -> list[Row]:
    """Question and choices out of a rendered query with `` A. text`` lines."""
    return [
        {
            "id": row["id"],
            "base": row["id"],
            "question": row["query"].partition("\n")[0].removeprefix("Question: "),
            "choices": re.findall(r"\n [A-Z]\. ([^\n]*)", row["query"]),
            "gold": row["gold"],
        }
        for row in rows
    ]


def copycolors_cyclic(rows: Sequence[Row]) -> list[Row]:
    """Every question with its choices in every cyclic order, so that each letter is right once."""
    documents = []
    for doc in copycolors(rows):
        choices = doc["choices"]
        for shift in range(len(choices)):
            documents.append(
                {
                    **doc,
                    "id": f"{doc['id']}_shift{shift}" if shift else doc["id"],
                    "choices": choices[shift:] + choices[:shift],
                    "gold": (doc["gold"] - shift) % len(choices),
                }
            )
    return documents


HOOKS: dict[str, Hook] = {
    "agi_eval": agi_eval,
    "bbh_shots": bbh_shots,
    "deepmind_math": deepmind_math,
    "ds1000": ds1000,
    "lbpp": lbpp,
    "copycolors": copycolors,
    "copycolors_cyclic": copycolors_cyclic,
    "coqa": coqa,
    "coqa_conversations": coqa_conversations,
    "drop": drop,
    "gsm8k": gsm8k,
    "gsm_symbolic": gsm_symbolic,
    "hellaswag": hellaswag,
    "humaneval_plus": humaneval_plus,
    "lab_bench": lab_bench,
    "lambada": lambada,
    "mbpp": mbpp,
    "sciq": sciq,
}

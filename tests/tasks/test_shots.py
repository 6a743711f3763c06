import random

import pytest

from olmeval.errors import UserError
from olmeval.tasks import shots as shots_module
from olmeval.tasks.schema import Form, ShotSource
from olmeval.tasks.shots import Shots, load_shots, recover

POOL = [{"id": n, "text": f"t{n}"} for n in range(50)]


def form(*sources, description: str = "") -> Form:
    return Form.model_validate(
        {
            "prompt": "{text}",
            "primary": "acc_raw",
            "num_shots": 0,
            "description": description,
            "shots": list(sources),
        }
    )


def load(count: int, *sources, pool=POOL, description: str = "") -> Shots:
    return load_shots(
        "name", form(*sources, description=description), count, lambda _: (pool, []),
        lambda doc: doc["text"],
    )  # fmt: skip


def test_sampled_shots_are_those_of_seed_1234() -> None:
    expected = [doc["text"] for doc in random.Random(1234).sample(POOL, 3)]
    shots = load(3, {"sample": "train"})
    assert list(shots.texts) == expected
    # The evaluated document is not left out.
    owner = shots.owners[0]
    assert shots.prefix(owner) == "".join(f"{text}\n\n" for text in expected)


def test_exclude_self_draws_one_more_and_drops_the_evaluated_document() -> None:
    drawn = random.Random(1234).sample(POOL, 4)
    shots = load(3, {"sample": "test", "exclude_self": True})
    second = str(drawn[1]["id"])
    others = [doc["text"] for doc in drawn if str(doc["id"]) != second]
    assert shots.prefix(second) == "".join(f"{text}\n\n" for text in others)
    assert shots.prefix("not drawn") == "".join(f"{doc['text']}\n\n" for doc in drawn[:3])


def test_first_and_ids() -> None:
    assert load(2, {"first": "dev"}).texts == ("t0", "t1")
    assert load(2, {"ids": ["9", "4", "1"], "split": "train"}).texts == ("t9", "t4")
    with pytest.raises(UserError, match="the split 'train' has no id '99'"):
        load(1, {"ids": ["99"], "split": "train"})


def test_no_shots_need_no_source_but_keep_the_description() -> None:
    shots = load(0, description="About.\n\n")
    assert shots.prefix("0") == "About.\n\n"
    with pytest.raises(UserError, match="has no source of shots; ask for ':0shot'"):
        load(1)


def test_too_few_are_an_error_and_the_next_source_is_tried() -> None:
    with pytest.raises(UserError, match="the split holds 2 documents, not 3"):
        load(3, {"first": "dev"}, pool=POOL[:2])
    assert load(3, {"ids": ["1"], "split": "train"}, {"first": "dev"}).texts == ("t0", "t1", "t2")


def test_fingerprint_sees_every_change() -> None:
    base = load(2, {"first": "dev"})
    changed = [
        load(1, {"first": "dev"}),
        load(2, {"sample": "dev"}),
        load(2, {"first": "dev"}, description="d"),
    ]
    assert base.fingerprint() == load(2, {"first": "dev"}).fingerprint()
    assert len({s.fingerprint() for s in [base, *changed]}) == 4


def test_recovered_shots_are_the_blocks_before_the_query(monkeypatch) -> None:
    context = "About.\n\nP: a\n\nS: 1\n\nP: b\n\nS: 2\n\nP: query\n\nS:"
    monkeypatch.setattr(shots_module, "first_context", lambda _: context)
    source = {"recover": "x/y", "count": 2, "cut": r"\n\n(?=P: )"}
    assert load(2, source, description="About.\n\n").texts == ("P: a\n\nS: 1", "P: b\n\nS: 2")
    assert load(1, source, description="About.\n\n").texts == ("P: a\n\nS: 1",)
    with pytest.raises(UserError, match="'x/y' carries 2, not 3"):
        load(3, source, description="About.\n\n")
    with pytest.raises(UserError, match="'x/y' has 5 shots, not 2"):
        recover(ShotSource(recover="x/y", count=2), "About.\n\n")
    with pytest.raises(UserError, match="does not start with the description"):
        recover(ShotSource(**source), "Else")


@pytest.mark.parametrize(
    ("spec", "starts", "ends"),
    [
        ("arc_easy:rc", "Question: ", "\nAnswer: "),
        ("arc_easy:mc", "Question: ", "\nAnswer: "),
        ("boolq:mc", "", "\nAnswer: "),
        ("minerva_math_500:bpb", "Problem:\n", "I hope it is correct."),
        ("codex_mbpp:bpb", "", "\n```"),
        ("squad:bpb", "Title: ", "\nAnswer: "),
    ],
)
def test_recovered_shots_are_whole_and_fewer_are_the_first(pulled, spec, starts, ends) -> None:
    from olmeval.tasks.registry import load_task

    every = load_task(spec, limit=1).shots
    assert every.count == len(every.texts) >= 3
    for text in every.texts:
        assert text.startswith(starts) and text == text.strip()
        assert ends in text.splitlines()[-1] or ends in f"\n{text.splitlines()[-1]}"
    two = load_task(f"{spec}:2shot", limit=1).shots
    assert two.texts == every.texts[:2]

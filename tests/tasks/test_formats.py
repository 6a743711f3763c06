import pytest
from hypothesis import given
from hypothesis import strategies as st

from olmeval.errors import UserError
from olmeval.tasks.formats import Renderer, instances, lettered
from olmeval.tasks.schema import Form
from olmeval.tasks.shots import Shots

NO_SHOTS = Shots("", (), (), 0, False, {})


def form(**changes) -> Form:
    base = {"prompt": "Question: {question}\nAnswer:", "primary": "acc_raw", "num_shots": 0}
    return Form.model_validate({**base, **changes})


def render(docs, used: Form, letters=False, shots=NO_SHOTS, **options):
    options = {"only_gold": False, "unconditional": None, "cluster": None, **options}
    return instances(docs, Renderer(used, letters), shots, **options)


DOC = {"id": 7, "question": "Q?", "choices": ["a", " b "], "gold": 1, "passage": "P"}


def test_rc_by_hand() -> None:
    (instance,) = render([DOC], form())
    assert [(r.kind, r.context, r.continuation) for r in instance.requests] == [
        ("loglikelihood", "Question: Q?\nAnswer:", " a"),
        ("loglikelihood", "Question: Q?\nAnswer:", "  b "),
    ]
    assert (instance.gold, instance.native_id, instance.doc_id) == (1, "7", 0)
    assert instance.unconditional == () and instance.cluster is None


def test_mc_by_hand() -> None:
    (instance,) = render([DOC], form(prompt="Question: {question}\n{lettered}\nAnswer:"), True)
    assert instance.requests[0].context == "Question: Q?\n A. a\n B.  b \nAnswer:"
    assert [r.continuation for r in instance.requests] == [" A", " B"]


def test_bpb_asks_for_the_gold_choice_alone() -> None:
    (instance,) = render([DOC], form(), only_gold=True)
    assert [r.continuation for r in instance.requests] == ["  b "]
    assert instance.gold == 0


def test_a_prompt_with_the_choice_gives_each_choice_its_context() -> None:
    used = form(prompt="{question} {choice}", target=" rest")
    (instance,) = render([DOC], used)
    assert [(r.context, r.continuation) for r in instance.requests] == [
        ("Q? a", " rest"),
        ("Q?  b ", " rest"),
    ]
    (gold,) = render([DOC], used, only_gold=True)
    assert [r.context for r in gold.requests] == ["Q?  b "]


def test_unconditional_requests_are_parallel_to_the_others() -> None:
    (instance,) = render([DOC], form(), unconditional="Answer:")
    assert [(r.context, r.continuation) for r in instance.unconditional] == [
        ("Answer:", " a"),
        ("Answer:", "  b "),
    ]


def test_cluster_is_shared_by_documents_with_one_passage() -> None:
    other = {**DOC, "passage": "other"}
    first, second, third = render([DOC, DOC, other], form(), cluster="{passage}")
    assert first.cluster == second.cluster != third.cluster


def test_shots_stand_before_the_query_with_blank_lines_between() -> None:
    shots = Shots("D.\n\n", ("s1", "s2"), ("1", "2"), 2, False, {})
    (instance,) = render([DOC], form(), shots=shots)
    assert instance.requests[0].context == "D.\n\ns1\n\ns2\n\nQuestion: Q?\nAnswer:"


def test_shot_is_the_prompt_and_the_gold_target_unless_given() -> None:
    assert Renderer(form(), False).shot(DOC) == "Question: Q?\nAnswer:  b "
    assert Renderer(form(shot="{question}|{choice}"), False).shot(DOC) == "Q?| b "


texts = st.text(alphabet=" ab\n\t.é😀", max_size=8)


@given(st.lists(texts, min_size=1, max_size=6), texts, st.data())
def test_rendering_never_strips_or_doubles_a_space(choices, question, data) -> None:
    gold = data.draw(st.integers(0, len(choices) - 1))
    doc = {"id": 0, "question": question, "choices": choices, "gold": gold}
    (rc,) = render([doc], form())
    assert [r.continuation for r in rc.requests] == [f" {choice}" for choice in choices]
    assert {r.context for r in rc.requests} == {f"Question: {question}\nAnswer:"}
    (mc,) = render([doc], form(prompt="{question}\n{lettered}\nAnswer:"), True)
    written = "".join(f"\n {'ABCDEF'[i]}. {choice}" for i, choice in enumerate(choices))
    assert mc.requests[0].context == f"{question}{written}\nAnswer:"
    (bpb,) = render([doc], form(), only_gold=True)
    assert bpb.requests == (rc.requests[gold],)


def test_letters_run_out() -> None:
    assert lettered(["x"] * 26).endswith(" Z. x")
    with pytest.raises(UserError, match="27 choices are more than there are letters"):
        lettered(["x"] * 27)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"gold": 2}, "document '7': the gold index 2 is outside its 2 choices"),
        ({"gold": "x"}, "document '7': invalid literal"),
        ({"choices": "ab"}, "document '7': 'choices' must be a list"),
        ({"choices": []}, "document '7': 'choices' must be a list"),
    ],
)
def test_a_bad_document_is_named(change, message: str) -> None:
    with pytest.raises(UserError, match=message):
        render([{**DOC, **change}], form())


def test_a_missing_field_names_the_document() -> None:
    with pytest.raises(UserError, match=r"document '7': template .* no 'missing'"):
        render([DOC], form(prompt="{missing}"))

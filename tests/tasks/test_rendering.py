"""Every family, format and variant of the catalogue renders documents."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from olmeval.errors import UserError
from olmeval.requests import Instance, Reference, Sampling
from olmeval.tasks import sources
from olmeval.tasks.describe import list_tasks
from olmeval.tasks.families import forms_of, load_catalogue
from olmeval.tasks.formats import Renderer, documents, generations
from olmeval.tasks.formats import instances as choices
from olmeval.tasks.registry import Task, load_task, resolve
from olmeval.tasks.schema import GENERATED, Form, Place, SamplingForm
from olmeval.tasks.shots import Shots
from olmeval.tasks.sources import Absent, Rows


def specs() -> list[str]:
    """All families x formats x single variants that go together."""
    found = []
    for name, entry in load_catalogue().entries.items():
        for form in forms_of(entry.family):
            for variants in ([], *([v] for v in entry.family.variants)):
                spec = ":".join([name, form, *variants])
                try:
                    resolve(spec)
                except UserError as error:
                    if "does not apply to the format" not in str(error):
                        raise
                    continue
                found.append(spec)
    return found


def check(task: Task, instance: Instance) -> None:
    """What must hold for an instance of any task."""
    requests = instance.requests
    if task.format in GENERATED:
        assert [r.kind for r in requests] == ["generate"] and instance.references
        assert requests[0].sampling is not None and requests[0].sampling.max_tokens > 0
        assert requests[0].context and instance.gold is None and task.grader
        assert all(reference for reference in instance.references)
    elif task.format == "ppl":
        assert [r.kind for r in requests] == ["rolling"] and requests[0].continuation
    else:
        assert all(r.kind == "loglikelihood" and r.continuation for r in requests)
        assert instance.gold is not None and instance.gold < len(requests)
        assert task.grader is None
        assert (len(requests) == 1) == (task.format == "bpb" or task.name.startswith("lambada"))
    assert task.primary_metric in task.metrics


def test_every_task_renders(pulled: Path, copies: Path, monkeypatch) -> None:
    """Nothing is left out: what the pulled data lacks is served by rows made for this test."""
    monkeypatch.setenv("OLMEVAL_DATA", str(copies))
    monkeypatch.setattr(sources, "_read_hub", no_hub)
    everything = specs()
    for spec in everything:
        task = load_task(spec, limit=4)
        # ``unseen`` leaves out what is among the shots.
        found = task.instances()[:3]
        assert len(found) == 3, spec
        for instance in found:
            check(task, instance)
    families = {spec.split(":")[0] for spec in everything}
    assert len(families) > 200 and len(everything) > 400
    formats = {spec.split(":")[1] for spec in everything}
    assert formats == {"mc", "rc", "bpb", "genqa", "cot", "code", "fim", "ppl"}


def test_the_schema_of_the_hub_gives_the_same_documents(copies: Path, tmp_path, monkeypatch):
    """Without the pulled data, a person's copies of the hub's data sets serve the same tasks."""
    monkeypatch.setenv("OLMEVAL_CACHE", str(tmp_path))
    monkeypatch.setenv("OLMEVAL_DATA", str(copies))
    monkeypatch.setattr(sources, "_read_hub", no_hub)

    def first(spec: str) -> tuple[str, tuple[Reference, ...]]:
        instance = load_task(spec).instances()[0]
        return instance.requests[0].context, instance.references

    context, references = first("drop:0shot")
    assert context.endswith("Question: How many in June?\nAnswer:")
    # The day of a date that nobody gave and an answer that says nothing are left out.
    assert references == (("1",), ("June",), ("one", "two"))
    context, references = first("squad:0shot")
    assert "Title: The_House\nBackground: A lamp glows at noon.\nQuestion: What" in context
    assert references == ("glows", "glows at noon")
    context, references = first("jeopardy:0shot")
    assert context == "Category: HOUSEHOLD\nQuestion: This thing glows: name it\nAnswer:"
    assert references == ("lamp",)
    with pytest.raises(Absent, match="olmeval data pull olmes"):
        load_task("medqa_en")


def test_mbpp_shows_one_assert_and_always_the_same(copies: Path, pulled: Path, monkeypatch) -> None:
    monkeypatch.setenv("OLMEVAL_DATA", str(copies))
    docs = load_task("mbpp").documents
    assert all(doc["shown"] in doc["test_list"] for doc in docs)
    assert [doc["shown"] for doc in docs] == [doc["shown"] for doc in load_task("mbpp").documents]
    # Drawn: about a third of 500 documents show the first.
    assert 100 < sum(doc["shown"] == doc["test_list"][0] for doc in docs) < 240
    standard, fixed = (
        load_task(f"mbpp{v}").instances()[0].requests[0].context for v in ("", ":fixed")
    )
    assert standard.count("def add_2(x): y = x + 2 return y\n") == 1
    assert fixed.count("def add_2(x): \n    y = x + 2\n    return y\n```") == 1
    for context in (standard, fixed):
        assert context.count("Please provide a self-contained") == 4
        assert context.endswith("Here is the completed function:\n\n```python\n")
    assert standard.count("Here is the completed function") == 1


def test_fixed_leaves_out_the_questions_that_are_among_the_shots(
    copies: Path, pulled: Path, monkeypatch, tmp_path: Path
) -> None:
    (tmp_path / "q.yaml").write_text(UNSEEN)
    rows = [f'{{"q": "{n}?", "choices": ["a", "b"], "gold": {n % 2}}}' for n in range(6)]
    (tmp_path / "q.jsonl").write_text("\n".join(rows))
    standard, fixed = (load_task(spec, None, [tmp_path]) for spec in ("q", "q:fixed"))
    assert [d["q"] for d in standard.documents] == [f"{n}?" for n in range(6)]
    assert [d["q"] for d in fixed.documents] == ["2?", "3?", "4?", "5?"]
    assert standard.hash != fixed.hash


UNSEEN = """
families:
  q:
    summary: s
    split: test
    splits: {test: [{file: q.jsonl}]}
    default: rc
    formats:
      rc: {prompt: "{q}", primary: acc_raw, num_shots: 2, shots: [{first: test}]}
    variants:
      fixed: {summary: x, formats: {all: {unseen: true}}}
"""


def no_hub(place: Place, split: str) -> Rows:
    raise AssertionError(f"the hub was asked for {place.hub} ({split})")


def test_what_only_the_hub_has_is_marked_and_one_sentence_says_so(pulled: Path, monkeypatch):
    monkeypatch.delenv("OLMEVAL_DATA", raising=False)
    monkeypatch.setattr(sources, "_hub_answers", lambda: False)
    rows = {row["task"]: row for row in list_tasks()}
    for name in ("gsm8k", "mmlu_virology", "squad", "codex_humaneval", "minerva_math", "lambada"):
        assert rows[name]["offline"] is True, name
    for name in ("bbh_navigate", "bbh", "mmlu_pro_law", "lbpp", "drop_gen2mc", "codex_mbpp"):
        assert rows[name]["offline"] is False, name
    for spec in ("bbh_navigate", "mmlu_pro_law", "lbpp", "agi_eval_sat_en", "arc_easy:mc:xlarge"):
        with pytest.raises(Absent) as error:
            load_task(spec)
        assert "no data for" in str(error.value) and "\n" not in str(error.value)


def test_the_mark_is_true(pulled: Path, monkeypatch) -> None:
    """A task is offline exactly if it loads without the hub."""
    monkeypatch.delenv("OLMEVAL_DATA", raising=False)
    monkeypatch.setattr(sources, "_hub_answers", lambda: False)
    for row in list_tasks():
        name = str(row["task"])
        if row["summary"].startswith("group of") or name.startswith(("mmlu_", "deepmind_")):
            continue
        try:
            load_task(name, limit=1)
            loads = True
        except Absent:
            loads = False
        assert loads == row["offline"], name


@given(
    st.text(st.characters(codec="utf-8"), min_size=1, max_size=30),
    st.text(st.characters(codec="utf-8"), max_size=30),
    st.text(st.characters(codec="utf-8"), max_size=30),
)
def test_rendering_never_strips_or_doubles_a_space(question: str, first: str, second: str) -> None:
    """Whatever the text, the prompt is description, shots, query, character for character."""
    doc = {"id": 0, "question": question, "choices": [first, second], "gold": 1}
    rc = Form(prompt="Q: {question}\nA:", primary="acc_raw", num_shots=0)
    shots = Shots("D: \n", (f"{first} ", second), (), 2, False, {})
    prefix = f"D: \n{first} \n\n{second}\n\n"
    (instance,) = choices([doc], Renderer(rc, letters=False), shots, only_gold=False,
                          unconditional=None, cluster=None)  # fmt: skip
    assert [r.context for r in instance.requests] == [f"{prefix}Q: {question}\nA:"] * 2
    assert [r.continuation for r in instance.requests] == [f" {first}", f" {second}"]
    mc = Renderer(rc.model_copy(update={"prompt": "{question}\n{lettered}\nA:"}), letters=True)
    (instance,) = choices([doc], mc, shots, only_gold=False, unconditional=None, cluster=None)
    lettered = f" A. {first}\n B. {second}"
    assert instance.requests[0].context == f"{prefix}{question}\n{lettered}\nA:"
    assert [r.continuation for r in instance.requests] == [" A", " B"]
    keys = {"sampling": SamplingForm(max_tokens=1), "grader": "squad"}
    keys |= {"references": "{choices}", "answer_prefix": " {gold} "}
    asks = rc.model_copy(update=keys)
    (instance,) = generations([doc], Renderer(asks, False), shots, Sampling(), None, None)
    assert instance.requests[0].context == f"{prefix}Q: {question}\nA: 1 "
    assert instance.references == (first, second)
    whole = Form(prompt="", target="{question}", primary="bits_per_byte", num_shots=0)
    (instance,) = documents([doc], Renderer(whole, False), None, None)
    assert instance.requests[0].continuation == question


@pytest.mark.parametrize(
    ("spec", "canonical", "temperature", "n", "max_tokens", "primary"),
    [
        ("gsm8k", "gsm8k:cot:8shot", 0, 1, 512, "exact_match"),
        ("gsm8k::olmo3:n8:v2", "gsm8k:cot:olmo3:8shot:n8", 0.6, 8, 512, "pass_at_1"),
        ("gsm8k:n4", "gsm8k:cot:8shot:n4", 0.6, 4, 512, "pass_at_1"),
        (
            "minerva_math_algebra::olmes:n4:v2", "minerva_math_algebra:cot:olmo3:4shot:n4",
            0.6, 4, 1024, "pass_at_1",
        ),
        ("minerva_math_500:fixed", "minerva_math_500:cot:fixed:4shot", 0, 1, 1024,
         "exact_match_verified"),
        ("codex_humaneval:3shot::olmo3:n32:v2", "codex_humaneval:code:olmo3:3shot:n32",
         0.6, 32, 1024, "pass_at_1"),
        ("drop::xlarge", "drop:genqa:xlarge:5shot", 0, 1, 100, "f1"),
        ("drop::olmes", "drop:genqa:olmes:5shot", 0, 1, 50, "f1"),
        ("naturalqs::xlarge", "naturalqs_open:genqa:xlarge:5shot", 0, 1, 50, "f1"),
        ("squad::xlarge", "squad:genqa:xlarge:5shot", 0, 1, 50, "f1"),
        ("jeopardy::xlarge", "jeopardy:genqa:xlarge:5shot", 0, 1, 50, "f1"),
    ],
)  # fmt: skip
def test_sampling_is_that_of_the_standard(
    pulled: Path, spec: str, canonical: str, temperature: float, n: int, max_tokens: int, primary
) -> None:
    task = load_task(spec, limit=1)
    assert (task.name, task.primary_metric) == (canonical, primary)
    sampling = task.instances()[0].requests[0].sampling
    assert sampling is not None
    assert (sampling.temperature, sampling.n, sampling.max_tokens) == (temperature, n, max_tokens)
    assert load_task(canonical, limit=1).hash == task.hash


def test_pass_and_maj_go_by_powers_of_two_to_the_number_of_samples(pulled: Path) -> None:
    def metrics(spec: str) -> set[str]:
        return set(load_task(spec, limit=1).metrics)

    both = {f"{kind}_at_{k}" for kind in ("pass", "maj") for k in (1, 2, 4, 8)}
    assert metrics("gsm8k:n8") == {*both, "exact_match"}
    assert metrics("gsm8k") == {"exact_match"}
    assert metrics("codex_humaneval:code:n32") == {f"pass_at_{2**e}" for e in range(6)}
    assert metrics("codex_humaneval:code:n5") == {f"pass_at_{k}" for k in (1, 2, 4, 5)}


def test_references_are_the_golds_of_the_data(pulled: Path) -> None:
    def first(spec: str) -> Instance:
        return load_task(spec).instances()[0]

    assert first("gsm8k").references == ("18",)
    assert first("drop").references == (("swedish",),)
    assert first("squad").references == ("23 years", "23", "23")
    assert first("minerva_math_500").references[0].startswith("We have that")
    ((before, after),) = first("codex_humaneval").references
    assert first("codex_humaneval").requests[0].context.endswith("```python\n" + before)
    assert after.rstrip().endswith("check(has_close_elements)")
    coqa = first("coqa")
    assert coqa.group == "mctest" and coqa.references == ("white",) * 4


def test_a_generation_sees_the_prompt_of_its_bpb_twin(pulled: Path) -> None:
    """The prompts of bpb are equal to the published ones byte for byte (``test_parity``)."""
    for family in ("gsm8k", "minerva_math_algebra", "drop", "squad", "naturalqs", "coqa"):
        asked, scored = load_task(family, limit=20), load_task(f"{family}:bpb", limit=20)
        for a, b in zip(asked.instances(), scored.instances(), strict=True):
            assert a.requests[0].context == b.requests[0].context

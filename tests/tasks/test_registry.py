import math
import random
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from olmeval.errors import UserError
from olmeval.tasks.describe import describe, list_tasks
from olmeval.tasks.families import forms_of, load_catalogue
from olmeval.tasks.registry import expand, load_task, sample_docs


@given(st.integers(1, 60), st.integers(1, 80))
def test_limit_is_a_sample_with_seed_1234(count: int, limit: int) -> None:
    docs = [{"id": n} for n in range(count)]
    expected = docs if limit >= count else random.Random(1234).sample(docs, limit)
    assert sample_docs(docs, limit) == expected


@given(st.integers(1, 60), st.floats(0.001, 1))
def test_a_fraction_is_rounded_up(count: int, fraction: float) -> None:
    docs = [{"id": n} for n in range(count)]
    assert len(sample_docs(docs, fraction)) == math.ceil(count * fraction)


@pytest.mark.parametrize("limit", [0, -1, 0.0, 1.5, -0.1, float("nan")])
def test_a_bad_limit(limit) -> None:
    with pytest.raises(UserError, match=f"limit {limit}"):
        sample_docs([{"id": 0}], limit)


def test_expand_gives_canonical_specs_once() -> None:
    assert expand(["arc_easy", "arc_easy:5shot:rc", "arc:mc:0shot"]) == [
        "arc_easy:rc:5shot",
        "arc_easy:mc:0shot",
        "arc_challenge:mc:0shot",
    ]
    assert len(expand(["mmlu:rc", "mmlu_stem"])) == 57


def test_every_default_spec_is_canonical() -> None:
    """expand is idempotent over every family and format of the catalogue."""
    specs = [
        f"{name}:{form}"
        for name, entry in load_catalogue().entries.items()
        for form in forms_of(entry.family)
    ]
    canonical = expand(specs)
    assert len(canonical) == len(specs)
    assert expand(canonical) == canonical


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("arc_esay", "unknown task 'arc_esay'; did you mean 'arc_easy'"),
        ("humanevl:bpb", "did you mean 'humaneval'"),
        ("arc_easy:genqa", "'arc_easy' has no format 'genqa'; it has bpb, mc, rc"),
        ("arc_easy:olmse", "no variant 'olmse'.*did you mean 'olmes'"),
        ("piqa:val", r"'piqa' has no variant 'val' \(it has olmes, xlarge, fixed\)"),
        ("sciq:mc:support", "'support' does not apply to the format 'mc'"),
        ("gsm8k:bpb:n8", "'n8' asks for samples, but the format 'bpb' generates nothing"),
        ("arc_easy:rc::olems", "unknown regime 'olems'; did you mean 'olmes'"),
    ],
)
def test_a_bad_spec_is_one_sentence(spec: str, message: str) -> None:
    for call in (lambda: expand([spec]), lambda: load_task(spec)):
        with pytest.raises(UserError, match=message):
            call()


def test_a_group_is_not_a_task() -> None:
    with pytest.raises(UserError, match="'arc' is a group of 2 tasks; name one"):
        load_task("arc")


# --- A private task: a YAML file and a JSONL file in any folder.


def test_private_task(quiz: Path) -> None:
    task = load_task("quiz", task_paths=[quiz])
    assert (task.name, task.format, task.primary_metric) == ("quiz:rc:2shot", "rc", "acc_per_char")
    assert task.metrics == (
        "acc_raw", "acc_per_token", "acc_per_char", "acc_per_byte", "bits_per_byte",
    )  # fmt: skip
    rows = {
        "a": "2 + 2 =\nAnswer:  4 ", "b": "3 + 3 =\nAnswer: 6",
        "c": "1 + 0 =\nAnswer: 1", "d": "9 - 9 =\nAnswer: 0",
    }  # fmt: skip
    drawn = random.Random(1234).sample(sorted(rows), 3)
    for instance in task.instances():
        own = instance.native_id
        shots = [rows[other] for other in drawn if other != own][:2]
        query = f"Question: {rows[own].split('Answer:')[0]}Answer:"
        context = "\n\n".join([*(f"Question: {shot}" for shot in shots), query])
        assert {request.context for request in instance.requests} == {context}
        assert instance.unconditional == ()
    assert task.provenance["data"][0]["kind"] == "file"
    assert task.provenance["documents"] == 4


def test_unconditional_requests_come_only_when_asked_for(quiz: Path) -> None:
    task = load_task("quiz", task_paths=[quiz], metrics=["acc_uncond", "acc_raw"])
    assert task.metrics[-1] == "acc_uncond" and len(task.metrics) == 6
    for instance in task.instances():
        assert [r.continuation for r in instance.unconditional] == [
            r.continuation for r in instance.requests
        ]
    with pytest.raises(UserError, match="'quiz:mc:0shot' cannot give 'acc_uncond'"):
        load_task("quiz:mc", task_paths=[quiz], metrics=["acc_uncond"])
    with pytest.raises(UserError, match="cannot give 'f1'; it gives acc_raw"):
        load_task("quiz", task_paths=[quiz], metrics=["f1"])


def test_limit_of_a_task(quiz: Path) -> None:
    ids = [i.native_id for i in load_task("quiz", 2, [quiz]).instances()]
    assert ids == random.Random(1234).sample(list("abcd"), 2)
    half = load_task("quiz", 0.5, [quiz])
    assert [i.native_id for i in half.instances()] == ids
    assert [i.doc_id for i in half.instances()] == [0, 1]
    assert half.provenance["documents_available"] == 4


def test_the_hash_sees_everything_that_changes_a_score(quiz: Path) -> None:
    def now(spec: str = "quiz", limit=None) -> str:
        return load_task(spec, limit, [quiz]).hash

    first = now()
    assert first == now()
    others = [now("quiz:mc"), now("quiz:1shot"), now(limit=2), now("quiz:bpb")]
    yaml, rows = quiz / "quiz.yaml", quiz / "quiz.jsonl"
    yaml.write_text(yaml.read_text().replace("Question: ", "Q: "))
    others.append(now())
    rows.write_text(rows.read_text().replace('"6"', '"six"'))
    others.append(now())
    assert len({first, *others}) == 1 + len(others)


def test_a_bad_document_of_a_private_task_is_named(quiz: Path) -> None:
    (quiz / "quiz.jsonl").write_text('{"id": "z", "question": "q", "choices": ["a"], "gold": 4}\n')
    with pytest.raises(UserError, match="document 'z': the gold index 4 is outside its 1 choices"):
        load_task("quiz:0shot", task_paths=[quiz]).instances()


def test_list_and_describe(quiz: Path) -> None:
    (row,) = list_tasks("quiz", [quiz])
    assert row["formats"] == ["bpb", "mc", "rc"] and row["primary_metric"] == "acc_per_char"
    assert [row["task"] for row in list_tasks("hellas")] == ["hellaswag"]
    description = describe(load_task("quiz", task_paths=[quiz]))
    assert description["task"] == "quiz:rc:2shot"
    assert description["prompt"]["prompt"] == r"'Question: {question}\nAnswer:'"


# --- On the pulled data.


def test_arc_easy_is_complete(pulled: Path) -> None:
    assert len(load_task("arc_easy:rc:5shot").instances()) == 2376


@pytest.mark.parametrize(
    ("spec", "documents", "primary"),
    [  # Counts and primary metrics of the OLMo 3 recipe.
        ("arc_easy:rc", 2376, "acc_per_char"),
        ("arc_challenge:rc", 1172, "acc_uncond"),
        ("csqa:rc", 1221, "acc_uncond"),
        ("hellaswag:rc", 10042, "acc_per_char"),
        ("winogrande:rc", 1267, "acc_raw"),
        ("socialiqa:rc", 1954, "acc_per_char"),
        ("piqa:rc", 1838, "acc_per_char"),
        ("sciq:rc", 1000, "acc_per_char"),
        ("qasper_yesno:rc", 319, "acc_raw"),
        ("sciriff_yesno:rc", 1582, "acc_raw"),
        ("basic_skills_arithmetic:rc", 1047, "acc_per_token"),
        ("lab_bench_dbqa:rc", 520, "acc_per_char"),
        ("lambada", 5153, "greedy_acc"),
        ("medmcqa:rc", 4183, "acc_per_char"),
        ("medqa_en:rc", 1273, "acc_per_char"),
        ("boolq:rc", 3270, "acc_raw"),
        ("boolq:rc:olmes", 1000, "acc_raw"),
        ("openbookqa:rc", 500, "acc_uncond"),
        ("gsm8k", 1319, "exact_match"),
        ("minerva_math_algebra", 1187, "exact_match"),
        ("codex_humaneval", 164, "pass_at_1"),
        ("arc_easy:bpb", 2376, "bits_per_byte"),
        ("mmlu_abstract_algebra:mc", 100, "acc_raw"),
    ],
)
def test_sizes_and_primary_metrics(pulled: Path, spec, documents: int, primary: str) -> None:
    task = load_task(spec)
    assert len(task.documents) == documents and task.primary_metric == primary
    assert task.primary_metric in task.metrics
    has_pmi = any(i.unconditional for i in task.instances()[:1])
    assert has_pmi == (primary == "acc_uncond")


def test_mmlu_has_14042_questions_and_its_first_dev_questions_as_shots(pulled: Path) -> None:
    tasks = [load_task(spec) for spec in expand(["mmlu:mc"])]
    assert sum(len(task.documents) for task in tasks) == 14042
    first = tasks[0].instances()[0].requests[0]
    assert first.context.startswith(
        "The following are multiple choice questions (with answers) about abstract algebra.\n\n"
        "Question: "
    )
    assert first.context.count("\nAnswer: ") == 5 and first.context.endswith("\nAnswer:")
    assert first.continuation == " A"


def test_a_bpb_twin_follows_the_variants_of_rc(pulled: Path) -> None:
    rc, bpb = (load_task(f"sciq:{form}:support:0shot").instances() for form in ("rc", "bpb"))
    assert [i.requests[0].context for i in rc] == [i.requests[0].context for i in bpb]
    plain = load_task("sciq:bpb:0shot").instances()
    assert sum(a.requests != b.requests for a, b in zip(bpb, plain, strict=True)) > 800


def test_questions_about_one_passage_share_a_cluster(pulled: Path) -> None:
    found = load_task("coqa").instances()
    by_story: dict[str, set[str]] = {}
    for instance in found:
        by_story.setdefault(instance.native_id.split("_turn")[0], set()).add(str(instance.cluster))
    assert all(len(clusters) == 1 for clusters in by_story.values())
    assert 400 < len({i.cluster for i in found}) <= len(by_story)


def test_the_fixed_variants_differ_from_the_standard_where_they_say(pulled: Path) -> None:
    standard = load_task("drop:bpb").instances()[0].requests[0].continuation
    fixed = load_task("drop:bpb:fixed").instances()[0].requests[0].continuation
    assert standard == f" ('{fixed[1:]}',)"
    glued, apart = (
        load_task(f"mt_mbpp_bash{v}").instances()[0].requests[0].context for v in ("", ":fixed")
    )
    assert glued.endswith("```bash") and apart == glued.removesuffix("```bash") + "\n```bash\n"
    leaky, clean = load_task("qasper_yesno"), load_task("qasper_yesno:fixed")
    own = [Path(i.native_id).name in clean.shots.owners for i in clean.instances()]
    assert sum(own) == 6  # five shots and the one more that is drawn
    for task, leaks in ((leaky, 5), (clean, 0)):
        found = sum(f"{i.requests[0].context}\n\n".count(_query(i)) > 1 for i in task.instances())
        assert found == leaks


def _query(instance) -> str:
    """The evaluated question with what comes before it in its own block."""
    context = instance.requests[0].context
    return context[context.rindex("\nQuestion: ") :]

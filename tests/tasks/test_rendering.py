"""Every family, format and variant of the catalogue renders documents."""

from pathlib import Path

import pytest

from olmeval.errors import UserError
from olmeval.requests import Instance
from olmeval.tasks.families import forms_of, load_catalogue
from olmeval.tasks.registry import Task, load_task, resolve
from olmeval.tasks.schema import GENERATED


def specs() -> list[str]:
    """All families x formats x single variants that go together; one of MMLU's subjects."""
    found = []
    for name, entry in load_catalogue().entries.items():
        if name.startswith("mmlu_") and name not in ("mmlu_virology", "mmlu_pro_law"):
            continue
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


def test_every_task_renders(pulled: Path) -> None:
    rendered = set()
    for spec in specs():
        try:
            task = load_task(spec, limit=3)
        except UserError as error:
            if "no connection to the hub" not in str(error) and "OLMEVAL_DATA" not in str(error):
                raise
            continue
        found = task.instances()
        assert len(found) == 3, spec
        for instance in found:
            check(task, instance)
        rendered.add(spec)
    assert len(rendered) > 150


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

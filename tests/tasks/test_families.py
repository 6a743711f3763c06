import textwrap
from pathlib import Path

import pytest

from olmeval.errors import UserError
from olmeval.tasks.families import CATALOGUE, forms_of, load_catalogue
from olmeval.tasks.hooks import HOOKS

BASE = """
families:
  mine:
    summary: s
    split: test
    splits: {test: [{file: a.jsonl}]}
    default: rc
    formats:
      rc: {prompt: "{q}", primary: acc_raw, num_shots: 0}
"""


def catalogue(folder: Path, text: str):
    (folder / "t.yaml").write_text(textwrap.dedent(text))
    return load_catalogue([folder])


def test_the_catalogue_names_every_family_of_the_first_cut() -> None:
    entries = load_catalogue().entries
    named = {
        "arc_easy", "arc_challenge", "hellaswag", "piqa", "csqa", "openbookqa", "socialiqa",
        "winogrande", "boolq", "sciq", "lambada", "gsm8k", "codex_humaneval", "codex_mbpp",
        "medmcqa", "medqa_en", "qasper_yesno", "sciriff_yesno", "jeopardy", "squad", "drop",
        "coqa", "naturalqs_open", "copycolors", "minerva_math_500",
    }  # fmt: skip
    assert named <= entries.keys()
    groups = load_catalogue().groups
    sizes = {
        "mmlu": 57, "mmlu_stem": 18, "mmlu_humanities": 13, "mmlu_social_sciences": 12,
        "mmlu_other": 14, "basic_skills": 6, "minerva_math": 7, "mt_mbpp": 17, "arc": 2,
        "lab_bench": 2,
    }  # fmt: skip
    assert sizes.items() <= {name: len(members) for name, members in groups.items()}.items()
    parts = [n for name in sizes if name.startswith("mmlu_") for n in groups[name]]
    assert sorted(parts) == sorted(groups["mmlu"])


def test_every_hook_is_used_and_no_benchmark_text_is_in_the_catalogue() -> None:
    text = "".join(path.read_text() for path in CATALOGUE.glob("*.yaml"))
    assert [name for name in HOOKS if f"prepare: {name}" not in text] == []
    # Prompts are templates: the longest literal texts are two published task descriptions.
    assert max(map(len, text.splitlines())) < 450


def test_every_rc_task_has_a_bpb_twin_with_the_same_prompt() -> None:
    forms = forms_of(load_catalogue().entries["arc_challenge"].family)
    assert forms["bpb"].prompt == forms["rc"].prompt
    assert forms["bpb"].shots == forms["rc"].shots
    assert forms["bpb"].primary == "bits_per_byte"


def test_each_stands_for_many_families(tmp_path: Path) -> None:
    text = BASE.replace("mine:", "t_$x:\n    each: {x: [one_two, b]}").replace(
        "summary: s", "summary: $x_words of $x"
    )
    entries = catalogue(tmp_path, text).entries
    assert entries["t_one_two"].family.summary == "one two of one_two"
    assert entries["t_b"].family.summary == "b of b"
    listed = BASE.replace("mine:", "t_$x:\n    each: [{x: a, y: Q}]").replace('"{q}"', '"$y {q}"')
    form = catalogue(tmp_path, listed).entries["t_a"].family.formats["rc"]
    assert form.prompt == "Q {q}"


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("summary: s", "sumary: s", r"t\.yaml:4: unknown key .* did you mean 'summary'"),
        ("acc_raw", "acc_row", r"t\.yaml:9: .*'acc_row' is not a metric here.*mean 'acc_raw'"),
        ("num_shots: 0", "num_shots: -1", "num_shots"),
        ('"{q}"', '"{q"', "unbalanced"),
        ("split: test", "split: tset", "uses the split 'tset'"),
        ("default: rc", "default: mc", "default format 'mc' is not among"),
        ("[{file: a.jsonl}]", "[{file: a, reading: other}]", "no reading 'other'"),
        ("split: test", "readings: {raw: {prepare: sqic}}\n    split: test", "mean 'sciq'"),
        (
            "summary: s",
            'summary: s\n    readings: {raw: {fields: {a: {match: "{b}", pattern: x}}}}',
            "needs one group",
        ),
        ("num_shots: 0", "num_shots: 0, shots: [{recover: a}]", "'recover' and 'count' go"),
        ("num_shots: 0", "num_shots: 0, shots: [{first: a, sample: b}]", "exactly one of"),
        ("num_shots: 0", "num_shots: 0, shots: [{first: a, cut: '('}]", "not a regular expression"),
        ("split: test", "split: test\n    variants: {v: {summary: x, formats: {rc: {q: 1}}}}", "q"),
        ("split: test", "split: test\n    variants: {v: {summary: x, formats: {mc: {}}}}", "'mc'"),
        ("mine:", "arc_easy:", "the task name 'arc_easy' is taken"),
        ("mine:", "m_$x:\n    each: 3", "'each' must be"),
    ],
)  # fmt: skip
def test_a_mistake_in_a_task_file_is_named(tmp_path: Path, old, new, message: str) -> None:
    assert old in BASE
    with pytest.raises(UserError, match=message) as error:
        catalogue(tmp_path, BASE.replace(old, new, 1))
    assert "t.yaml" in str(error.value) and "\n" not in str(error.value)


def test_groups_must_have_members_and_a_name_of_their_own(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="the group 'g' has no members"):
        catalogue(tmp_path, BASE + "groups: {g: [nothing_*]}\n")
    with pytest.raises(UserError, match="the group 'mine' has the name of a task"):
        catalogue(tmp_path, BASE + "groups: {mine: [mine]}\n")


def test_a_folder_without_task_files(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="holds no task file"):
        load_catalogue([tmp_path])

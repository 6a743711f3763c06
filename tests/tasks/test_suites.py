"""Suites: all load, names of OLMES work as they are, mistakes are named."""

import json
from pathlib import Path

import pytest

from olmeval.errors import UserError
from olmeval.tasks.registry import expand, resolve
from olmeval.tasks.suites import (
    expand_suites,
    higher_is_better,
    load_suites,
    suite_tasks,
    suites_in,
)

TASKS = """
families:
  quiz_$kind:
    each: {kind: [one, two]}
    summary: Questions of kind $kind
    split: test
    splits: {test: [{file: quiz.jsonl}]}
    default: rc
    formats:
      rc: {prompt: "{question}", primary: acc_raw, num_shots: 0}
groups:
  quiz: [quiz_*]
"""


@pytest.fixture
def private(tmp_path: Path):
    """A function that writes a file of suites beside two private tasks; returns the task path."""
    (tmp_path / "quiz.yaml").write_text(TASKS)
    (tmp_path / "suites").mkdir()

    def write(text: str) -> list[Path]:
        (tmp_path / "suites" / "mine.yaml").write_text(text)
        return [tmp_path]

    return write


def test_all_suites_are_whole() -> None:
    suites = load_suites()
    for name, suite in suites.items():
        assert suite.tasks and suite.metrics and suite.summary, name
        assert len({higher_is_better(metric) for metric in suite.metrics}) == 1
        assert list(suite.tasks) == suite_tasks(name)
        for task in suite.tasks:
            assert str(resolve(task).spec) == task, name
        for member in suite.members:
            assert member in suites or member in suite.tasks
        assert json.loads(json.dumps(suite.plain())) == suite.plain()


@pytest.mark.parametrize(
    ("name", "aggregate", "members", "tasks"),
    [
        ("olmo3:base_easy:math_bpb", "macro", 7, 7),
        ("olmo3:base_easy:code_bpb", "macro", 3, 19),
        ("olmo3:base_easy:qa_rc", "macro", 21, 83),
        ("olmo3:base_easy:qa_bpb", "macro", 21, 83),
        ("olmo3:base:stem_qa_mc", "macro", 5, 23),
        ("olmo3:base:nonstem_qa_mc", "macro", 11, 47),
        ("olmo3:base:gen", "macro", 9, 14),
        ("olmo3:base:math", "macro", 3, 11),
        ("olmo3:base:code", "macro", 7, 17),
        ("olmo3:base:code_fim", "macro", 3, 3),
        ("olmo3:heldout", "macro", 4, 98),
        ("bbh:cot::olmo3:heldout", "micro", 27, 27),
        ("olmo_2_heldout::olmes", "macro", 5, 51),
        ("coqa::gen2mc", "max", 2, 2),
        ("mt_mbpp_v2fix", "macro", 17, 17),
        ("core_9mcqa::olmes", "macro", 9, 18),
        ("core_9mcqa:rc::olmes", "macro", 9, 9),
        ("core_9mcqa::olmes:full", "macro", 9, 18),
        ("olmes_10", "macro", 10, 132),
        ("arc_easy::olmes", "max", 2, 2),
        ("mmlu::olmes", "max", 2, 114),
        ("basic_skills::olmes", "macro", 6, 12),
    ],
)
def test_sizes(name: str, aggregate: str, members: int, tasks: int) -> None:
    suite = load_suites()[name]
    assert (suite.aggregate, len(suite.members), len(suite.tasks)) == (aggregate, members, tasks)


def test_olmes_takes_samples_and_full_takes_all() -> None:
    assert suite_tasks("piqa::olmes") == ["piqa:mc:olmes:5shot", "piqa:rc:olmes:5shot"]
    assert suite_tasks("piqa::olmes:full") == ["piqa:mc:5shot", "piqa:rc:5shot"]


def test_primary_metrics_of_olmo3() -> None:
    suites = load_suites()
    assert suites["olmo3:base_easy:qa_bpb"].metrics == ("bits_per_byte",)
    for name in ("olmo3:base:math", "olmo3:base:code", "olmo3:base:code_fim"):
        assert suites[name].metrics == ("pass_at_1",), name
    assert set(suites["olmo3:base:gen"].metrics) == {
        "acc_per_char", "acc_raw", "greedy_acc", "acc_per_token", "f1",
    }  # fmt: skip


def test_the_mc_or_rc_pair_has_the_published_metrics() -> None:
    assert load_suites()["arc_challenge::olmes"].metrics == ("acc_raw", "acc_uncond")


def test_expansion_leaves_tasks_alone_and_repeats_nothing() -> None:
    specs = ["arc_easy:rc", "mt_mbpp_v2fix", "olmo3:base_easy:code_bpb", "lambada"]
    found = expand_suites(specs)
    assert found[0] == "arc_easy:rc" and found[-1] == "lambada"
    assert len(found) == 21
    assert expand(found)[1:-1] == found[1:-1]


def test_a_group_is_the_average_of_its_tasks() -> None:
    assert expand_suites(["mmlu:rc::olmes"]) == expand(["mmlu:rc"])
    found = suites_in(["mmlu:rc::olmes"])
    assert list(found) == ["mmlu:rc:5shot"]
    assert found["mmlu:rc:5shot"]["aggregate"] == "macro"
    assert suites_in(["mmlu:rc:5shot"]) == found


def test_a_group_has_the_name_that_its_tasks_share(private) -> None:
    assert list(suites_in(["arc:mc"])) == ["arc:mc:5shot"]
    assert list(suites_in(["quiz"], private("{}"))) == ["quiz:rc:0shot"]


def test_the_suites_inside_come_along() -> None:
    found = suites_in(["olmo3:base_easy:code_bpb", "arc_easy"])
    assert list(found) == ["olmo3:base_easy:code_bpb", "mt_mbpp_v2fix"]
    inner = found["mt_mbpp_v2fix"]
    assert set(inner["questions"].values()) == {"mbpp"}
    assert set(inner["questions"]) == set(inner["members"])


def test_private_suites(private) -> None:
    paths = private(
        """
suites:
  ours: {summary: both, aggregate: micro, group: quiz}
  more: {summary: more, members: [ours, "arc:mc"]}
aliases: {team: more}
"""
    )
    assert suite_tasks("ours", paths) == ["quiz_one:rc:0shot", "quiz_two:rc:0shot"]
    assert list(suites_in(["team"], paths)) == ["more", "ours", "arc:mc:5shot"]
    assert "more" in load_suites(paths)
    assert "more" not in load_suites()


@pytest.mark.parametrize(
    ("suites", "message"),
    [
        ("a: {summary: x, members: [quiz_three]}", "'a': unknown task 'quiz_three'; did you mean"),
        ("a: {summary: x, members: [quiz_one:mc]}", "has no format 'mc'"),
        ("a: {summary: x, members: [b]}\n  b: {summary: x, members: [a]}", "a -> b -> a"),
        ("a: {summary: x, members: [quiz_one, quiz_one:rc]}", "'quiz_one:rc:0shot' is in it twice"),
        ("a: {summary: x, members: [quiz, quiz_one]}", "'quiz_one:rc:0shot' is in it twice"),
        ("a: {summary: x, members: [quiz_one, quiz_two:bpb]}", "less for 'quiz_two:bpb:0shot'"),
        ("a: {summary: x, aggregate: max, members: [quiz_one]}", "'max' needs two members"),
        ("a: {summary: x, group: quiz_one}", "'quiz_one' is no group"),
        ("a: {summary: x}", "either 'members' or 'group'"),
        ("a: {summary: x, group: quiz, aggregate: sum}", "mine.yaml:3: suites.a.aggregate"),
        ("quiz: {summary: x, members: [quiz_one]}", "the suite name 'quiz' is taken"),
        ("olmes_10: {summary: x, members: [quiz_one]}", "the suite name 'olmes_10' is taken"),
        ("a: {summary: x, member: [quiz_one]}", "did you mean 'members'"),
    ],
)
def test_mistakes_are_named(private, suites: str, message: str) -> None:
    with pytest.raises(UserError) as error:
        load_suites(private(f"\nsuites:\n  {suites}\n"))
    assert "mine.yaml" in str(error.value)
    assert message in str(error.value)
    assert str(error.value).count("suite 'a'") <= 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("aliases: {a: b}", "mine.yaml': the alias 'a' stands for 'b'"),
        ("micro: [quiz_one]", "'quiz_one', which is no group"),
        ("questions: {q: [nothing_*]}", "'nothing_*' of the questions 'q' is no task"),
    ],
)
def test_mistakes_outside_suites_are_named(private, text: str, message: str) -> None:
    with pytest.raises(UserError) as error:
        load_suites(private(text))
    assert message in str(error.value)


def test_not_a_suite() -> None:
    with pytest.raises(UserError, match="'arc_easy' is not a suite"):
        suite_tasks("arc_easy")


def test_a_group_can_be_averaged_by_question(private) -> None:
    paths = private("micro: [quiz]")
    assert suites_in(["quiz"], paths)["quiz:rc:0shot"]["aggregate"] == "micro"


def test_sampled_metrics_have_a_direction() -> None:
    assert higher_is_better("pass_at_8") and higher_is_better("maj_at_4")
    assert not higher_is_better("bits_per_byte")
    with pytest.raises(UserError, match="'speed' has no direction"):
        higher_is_better("speed")

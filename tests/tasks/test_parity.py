"""Our requests against the pulled ones, byte for byte."""

from pathlib import Path

import pytest

from olmeval.config import load_config
from olmeval.errors import UserError
from olmeval.tasks import parity
from olmeval.tasks.parity import FOLDERS, Folder, Folders, compare, compare_all

# One folder of every way to build: raw tables, documents in requests, sampled and recovered shots,
# two contexts, hooks, samples of 1000 documents, unconditional rows.
QUICK = [
    "arc_challenge/val_mc_5shot", "arc_challenge/test_rc_5shot", "basic_skills_pattern/rc_5shot",
    "boolq/mc_5shot", "codex_humaneval/gold_bpb_3shot", "copycolors/xl_10way", "csqa/mc_5shot",
    "drop/bpb_5shot", "gsm8k/gold_bpb_5shot", "hellaswag/mc_5shot", "jeopardy/bpb_5shot",
    "lab_bench_protocolqa/mc_3shot", "minerva_math_500/gold_bpb_0shot",
    "mt_mbpp_cpp/gold_bpb_3shot", "naturalqs_open/bpb_5shot", "openbookqa/rc_0shot",
    "piqa/rc_5shot", "qasper_yesno/mc_5shot", "sciq/mc_5shot", "sciq/rc_0shot",
    "socialiqa/mc_5shot", "squad/bpb_5shot", "winogrande/rc_5shot",
]  # fmt: skip


def listed() -> dict[str, Folder]:
    return load_config(FOLDERS, Folders).folders


@pytest.mark.parametrize("name", QUICK)
def test_folder_is_equal(pulled: Path, name: str) -> None:
    result = compare(name, listed()[name])
    assert (result.equal, result.reason) == (result.total, None)


@pytest.mark.slow
def test_all_folders(pulled: Path, capsys: pytest.CaptureFixture[str]) -> None:
    results = compare_all()
    equal, total = sum(r.equal for r in results), sum(r.total for r in results)
    with capsys.disabled():
        print(f"\nparity: {equal:,} of {total:,} pulled requests rebuilt byte for byte")
        for result in results:
            if result.equal != result.total:
                print(f"  {result.folder}: {result.equal:,} of {result.total:,}, {result.reason}")
    assert (len(results), total) == (116, 700_172)
    assert equal == 699_672
    assert [r.folder for r in results if r.equal != r.total] == ["codex_mbpp/gold_bpb_0shot"]


def test_every_exception_has_a_reason() -> None:
    exceptions = {name: f.reason for name, f in listed().items() if f.spec is None}
    assert len(exceptions) == 1 and all(exceptions.values())


def test_a_difference_is_counted_and_named(pulled: Path, monkeypatch) -> None:
    """The comparison sees one changed character, a swapped order and a missing request."""
    name = "lab_bench_protocolqa/mc_3shot"
    folder, stored = listed()[name], parity.read_requests(name)

    def against(changed):
        monkeypatch.setattr(parity, "read_requests", lambda _: changed)
        return compare(name, folder)

    changed = [dict(request) for request in stored]
    changed[5] = {**stored[5], "request": {**stored[5]["request"], "continuation": "  B"}}
    result = against(changed)
    assert result.equal == len(stored) - 1
    assert result.reason == "request 5: the continuation differs at character 1"
    changed = [stored[1], stored[0], *stored[2:]]
    assert against(changed).equal == len(stored) - 2
    result = against(stored[:-1])
    assert result.reason == f"{len(stored)} requests rebuilt, {len(stored) - 1} stored"
    changed = [dict(request) for request in stored]
    changed[0] = {**stored[0], "label": (stored[0]["label"] + 1) % 4}
    assert against(changed).reason == "request 0: the label differs"


def test_a_context_is_built_and_not_copied(pulled: Path, monkeypatch) -> None:
    """A change of our template shows in every request."""
    from olmeval.tasks import formats

    real = formats.compile_template
    monkeypatch.setattr(formats, "compile_template", lambda t: real(t.replace("Goal:", "Aim:")))
    result = compare("piqa/rc_5shot", listed()["piqa/rc_5shot"])
    # The unconditional half does not hold the template.
    assert result.equal == result.total // 2


def test_a_folder_that_is_not_listed(pulled: Path, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(parity, "FOLDERS", tmp_path / "p.yaml")
    (tmp_path / "p.yaml").write_text("folders: {a/b: {reason: x}}\n")
    with pytest.raises(UserError, match="does not list the pulled folder 'arc_challenge/mc_5shot'"):
        compare_all()


def test_a_folder_needs_a_spec_or_a_reason() -> None:
    for keys in ({}, {"spec": "a", "reason": "b"}):
        with pytest.raises(ValueError, match="give a spec or a reason"):
            Folder(**keys)


def test_without_the_pulled_data_it_says_what_to_run(monkeypatch, tmp_path: Path) -> None:
    monkeypatch.setenv("OLMEVAL_CACHE", str(tmp_path))
    with pytest.raises(UserError, match="run `olmeval data pull olmes`"):
        compare_all()

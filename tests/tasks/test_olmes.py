"""Names as they stand in the scripts of OLMES users."""

import pytest

from olmeval.tasks.olmes import from_olmes
from olmeval.tasks.registry import expand


@pytest.mark.parametrize(
    ("name", "ours"),
    [
        ("arc_challenge:rc::olmes:full", "arc_challenge:rc:5shot"),
        ("arc_challenge:rc::olmes", "arc_challenge:rc:5shot"),
        ("arc_easy:mc::olmes", "arc_easy:mc:olmes:5shot"),
        ("arc_easy:mc::olmes:full", "arc_easy:mc:5shot"),
        ("hellaswag:rc::olmes", "hellaswag:rc:olmes:5shot"),
        ("csqa:bpb::olmes:full", "csqa:bpb:5shot"),
        ("minerva_math_algebra:bpb::olmes", "minerva_math_algebra:bpb:4shot"),
        ("codex_humaneval:3shot:bpb::none", "codex_humaneval:bpb:3shot"),
        ("mbpp:3shot:bpb::none", "codex_mbpp:bpb:3shot"),
        ("mt_mbpp:bash", "mt_mbpp_bash:bpb:3shot"),
        ("mt_mbpp_v2fix:cpp", "mt_mbpp_cpp:bpb:fixed:3shot"),
        ("sciq:rc::olmo3", "sciq:rc:5shot"),
        ("medmcqa:mc::none", "medmcqa:mc:5shot"),
        ("mmlu_virology:rc::olmes", "mmlu_virology:rc:5shot"),
        ("humaneval:bpb", "codex_humaneval:bpb:3shot"),
    ],
)
def test_known_names(name: str, ours: str) -> None:
    assert expand([name]) == [ours]


def test_an_alias_stands_for_one_part_or_two() -> None:
    aliases = {"a": "b:x", "a:c": "d"}
    assert from_olmes("a:rc", aliases) == ("b:x:rc", None)
    assert from_olmes("a:c:rc::olmes:full", aliases) == ("d:rc", "olmes:full")
    assert from_olmes("z:rc", aliases) == ("z:rc", None)

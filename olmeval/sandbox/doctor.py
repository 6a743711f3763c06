"""What this machine can run programs with: isolation, languages, Python environments.

Every row says what was found and, where something is missing, the command that gets it.
"""

import os
import platform
import shutil
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

from olmeval.errors import UserError
from olmeval.sandbox import environments, languages, languages_judge, tiers, toolchains
from olmeval.sandbox.tiers import Tier

Group = Literal["isolation", "languages", "environments"]
# What the tiers are, for people who have not read the documentation.
TIERS = {
    "T1": "namespaces, control groups and a system call filter around every program",
    "T2": "Landlock, a system call filter and limits, without namespaces of their own",
    "T3": "nothing here can contain a program; it is refused unless --unsafe-local is given",
}


@dataclass(frozen=True)
class Row:
    """One thing: whether it is there, what was found, and how to get it where it is not."""

    group: Group
    name: str
    ok: bool
    found: str
    fix: str = ""


@dataclass(frozen=True)
class Doctor:
    """The tier (T1, T2, T3), what it means, and the rows behind it."""

    tier: str
    meaning: str
    rows: tuple[Row, ...]

    def to_json(self) -> dict[str, Any]:
        """A plain dictionary."""
        return asdict(self)


def report(*, run: bool = False) -> Doctor:
    """Looks at this machine; starts one jail, and one program for each version number.

    With ``run``, a language counts as there once a program in it has passed in the sandbox.
    """
    tier = tiers.probe()
    found = [_language(name) for name in languages.LANGUAGES]
    if run and tier.name != "T3":
        found = [
            _run(name, row) if row.ok else row
            for name, row in zip(languages.LANGUAGES, found, strict=True)
        ]
    rows = (*_isolation(tier), *found, *_environments())
    return Doctor(tier.name, TIERS[tier.name], rows)


def _isolation(tier: Tier) -> list[Row]:
    bubblewrap = shutil.which("bwrap")
    return [
        Row("isolation", "tier", tier.name != "T3", tier.name, "; ".join(tier.reasons)),
        Row(
            "isolation", "bubblewrap", bubblewrap is not None,
            toolchains.version(bubblewrap) if bubblewrap else "not installed",
            "" if bubblewrap else "`apt-get install bubblewrap`",
        ),
        Row(
            "isolation", "user namespaces", tier.namespaces,
            "usable" if tier.namespaces else "not usable",
            "" if tier.namespaces else _namespaces_fix(),
        ),
        Row(
            "isolation", "Landlock", tier.landlock > 0,
            f"version {tier.landlock}" if tier.landlock else "absent",
            "" if tier.landlock else "Linux 5.13 or newer with landlock among its security modules",
        ),
        Row(
            "isolation", "seccomp", tier.seccomp, "usable" if tier.seccomp else "not usable",
            "" if tier.seccomp else "a Linux kernel with seccomp filters, on x86-64 or ARM64",
        ),
        Row(
            "isolation", "memory control group", tier.memory_group,
            "writable" if tier.memory_group
            else "not writable: memory of all processes together is looked at every 30 ms instead",
            "" if tier.memory_group
            else "run as root, or have the system delegate a control group to this user",
        ),
        Row("isolation", "Python", True, platform.python_version()),
    ]  # fmt: skip


def _namespaces_fix() -> str:
    """The setting that forbids them here, as far as it can be seen."""
    wanted = {
        "/proc/sys/kernel/unprivileged_userns_clone": ("0", "kernel.unprivileged_userns_clone=1"),
        "/proc/sys/user/max_user_namespaces": ("0", "user.max_user_namespaces=15000"),
        "/proc/sys/kernel/apparmor_restrict_unprivileged_userns": (
            "1", "kernel.apparmor_restrict_unprivileged_userns=0",
        ),
    }  # fmt: skip
    for path, (forbidding, setting) in wanted.items():
        try:
            if Path(path).read_text().strip() == forbidding:
                return f"`sysctl -w {setting}` as root"
        except OSError:
            continue
    if os.path.exists("/.dockerenv"):
        return "let the container make them (`docker run --security-opt seccomp=unconfined`)"
    return "install bubblewrap and allow this user to make user namespaces"


def _language(name: str) -> Row:
    one = languages.language(name)
    title = f"{one.title} ({name})"
    absent = {
        program: found.reason
        for program in one.tools.values()
        if isinstance(found := toolchains.find(program), toolchains.Missing)
    }
    if absent:
        return Row("languages", title, False, "; ".join(absent.values()),
                   f"`apt-get install {one.packages}`")  # fmt: skip
    main = toolchains.find(next(iter(one.tools.values())))
    assert isinstance(main, toolchains.Tool)
    return Row("languages", title, True, toolchains.version(main.path, one.version))


def _run(name: str, row: Row) -> Row:
    try:
        languages_judge.judge(name, [])
    except UserError as error:
        return replace(row, ok=False, fix=str(error))
    return replace(row, found=f"{row.found}, runs")


def _environments() -> list[Row]:
    rows = []
    for name in environments.names():
        found = environments.find(name)
        if found is None:
            rows.append(
                Row("environments", name, False, f"absent ({environments.pins(name).summary})",
                    f"`olmeval sandbox env create {name}`")
            )  # fmt: skip
        else:
            what = f"Python {found.python}, {len(found.versions)} packages in {found.path}"
            rows.append(Row("environments", name, True, what))
    return rows

"""Runs one file of source in the sandbox, for a person who wants to see what happens to it."""

from dataclasses import replace
from pathlib import Path, PurePath

from olmeval.errors import UserError
from olmeval.sandbox.run import run_jobs
from olmeval.sandbox.types import MIB, Command, Job, Limits, Outcome, Role

SECONDS = 10.0


def run_file(
    path: Path,
    *,
    language: str | None = None,
    seconds: float = SECONDS,
    memory: int | None = None,
    unsafe_local: bool = False,
) -> Outcome:
    """What became of the program in ``path``; its language follows from the name's ending.

    ``seconds`` of wall time for each step (compiling, running), ``memory`` in bytes; by default
    1 GiB for Python and what the language's benchmark has for others.

    Raises :class:`UserError` for a file that cannot be read, a language that is not known or
    whose toolchain is missing, and where nothing can contain a program.
    """
    try:
        source = path.read_bytes()
    except OSError as error:
        raise UserError(f"cannot read '{path}': {error.strerror}") from None
    name = language or _language_of(path)
    if name == "py":
        limits = Limits(seconds=seconds, memory=memory or 1024 * MIB)
        run: Job | Command = Job(path.name, (Role("script", source),), limits)
    else:
        run = _command(name, source, path.name, seconds, memory)
    return run_jobs([run], unsafe_local=unsafe_local)[0]


def _language_of(path: Path) -> str:
    from olmeval.sandbox.languages import LANGUAGES

    if path.suffix == ".py":
        return "py"
    for name, one in LANGUAGES.items():
        if PurePath(one.file).suffix == path.suffix:
            return name
    known = sorted({".py", *(PurePath(one.file).suffix for one in LANGUAGES.values())})
    raise UserError(
        f"the language of '{path}' does not follow from its name; end it with one of "
        f"{' '.join(known)}, or name it with --language"
    )


def _command(name: str, source: bytes, key: str, seconds: float, memory: int | None) -> Command:
    from olmeval.sandbox.languages import command_for

    try:
        text = source.decode()
    except UnicodeDecodeError:
        raise UserError(f"'{key}' is not UTF-8 text") from None
    command = command_for(name, text, key)
    steps = tuple(
        replace(step, limits=replace(step.limits, seconds=seconds,
                                     memory=memory or step.limits.memory))
        for step in command.steps
    )  # fmt: skip
    return replace(command, steps=steps)

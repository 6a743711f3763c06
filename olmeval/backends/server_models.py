"""Which model a server serves, and what identifies it.

A server cannot prove its weights. Its model is identified by everything that it says of it (model
id, root), by its URL, by ``revision`` where the user names one, and, when the root is a folder that
can be read here, by the content of that folder. With a ``revision`` the user vouches for the
weights, and the URL does not count: a job that comes back on another host continues.
"""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from olmeval.backends.checkpoints import HUB_ID, Checkpoint, checkpoint_in, fingerprint
from olmeval.backends.server_http import Server, ServerArguments
from olmeval.errors import UserError, nearest
from olmeval.files import sha256_json


@dataclass(frozen=True)
class ServedModel:
    """A model as the server lists it.

    ``root`` is where the server loaded it from (a folder or hub id), None where it does not say;
    ``max_length`` the tokens of its window, None where it does not say.
    """

    id: str
    root: str | None = None
    max_length: int | None = None

    @property
    def folder(self) -> Path | None:
        """The root, if it is a checkpoint folder that can be read here."""
        folder = Path(self.root) if self.root else None
        return folder if folder and (folder / "config.json").is_file() else None

    @property
    def source(self) -> str | None:
        """A folder or hub id with the model's tokenizer and configuration, if one is known."""
        if self.folder is not None:
            return str(self.folder)
        return self.root if self.root and HUB_ID.match(self.root) else None


def find_served(url: str) -> Checkpoint:
    """The checkpoint that a server's URL stands for, named after its only model, else its host.

    Raises :class:`UserError` when no server answers there.
    """
    server = Server(url, ServerArguments(retries=2, timeout=30))
    try:
        models = [_parse(entry) for entry in server.models()]
    finally:
        server.close()
    if len(models) != 1:
        return Checkpoint(_file_name(re.sub(r"^\w+://|/.*$", "", server.url)), server.url)
    model = models[0]
    if model.folder is not None:
        local = checkpoint_in(model.folder)
        return Checkpoint(local.name, server.url, local.metadata)
    return Checkpoint(_file_name(model.id.rstrip("/").split("/")[-1]), server.url)


def choose_model(server: Server, asked: str | None) -> ServedModel:
    """The model named ``asked``, or the only one there is; :class:`UserError` otherwise."""
    models = {entry["id"]: _parse(entry) for entry in server.models()}
    if asked is not None:
        if asked not in models:
            raise UserError(
                f"the server at '{server.url}' serves no '{asked}'{nearest(asked, models)}"
            )
        return models[asked]
    if len(models) != 1:
        listed = ", ".join(f"'{name}'" for name in list(models)[:5]) or "none"
        raise UserError(
            f"the server at '{server.url}' lists {len(models)} models ({listed}); name one with "
            "--backend-args model=ID"
        )
    return next(iter(models.values()))


def identity(server: Server, model: ServedModel) -> str:
    """Hex SHA-256 of what is known of the model's weights."""
    revision = server.arguments.revision
    content = None
    if model.folder is not None:
        try:
            content = fingerprint(checkpoint_in(model.folder))
        except UserError:  # the folder on this machine need not be a whole checkpoint
            content = None
    return sha256_json(
        {
            "model": model.id,
            "root": model.root,
            "revision": revision,
            "content": content,
            "url": server.url if revision is None else None,
        }
    )


def _parse(entry: dict[str, Any]) -> ServedModel:
    root, window = entry.get("root"), entry.get("max_model_len")
    return ServedModel(
        entry["id"],
        root if isinstance(root, str) else None,
        window if isinstance(window, int) else None,
    )


def _file_name(name: str) -> str:
    return re.sub(r"[^\w.+-]", "-", name)

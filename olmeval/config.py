"""Strict YAML into pydantic models; a mistake is named by file, line and nearest key."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar, get_args

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from olmeval.errors import UserError, nearest


class Config(BaseModel):
    """Base of every configuration: immutable, unknown keys refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)


C = TypeVar("C", bound=BaseModel)
Location = tuple[str | int, ...]


def load_config(path: Path, model: type[C], overrides: Mapping[str, Any] | None = None) -> C:
    """Reads ``path`` into ``model``; ``overrides`` maps dotted keys to values, applied first.

    Raises :class:`UserError` with file, line and nearest key.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise UserError(f"'{path}' does not exist") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read '{path}': {error}") from None
    return parse_config(text, model, source=str(path), overrides=overrides)


def parse_config(
    text: str, model: type[C], source: str, overrides: Mapping[str, Any] | None = None
) -> C:
    """As :func:`load_config`, from text; ``source`` names it in messages."""
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        value = yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{source}:{mark.line + 1}" if mark else source
        raise UserError(f"{where}: not valid YAML: {getattr(error, 'problem', error)}") from None
    _refuse_twice(node, source)
    if not isinstance(value, dict):
        raise UserError(f"{source}: expected a mapping of keys to values")
    for key, override in (overrides or {}).items():
        _set_dotted(value, key.split("."), override)
    try:
        return model.model_validate(value)
    except ValidationError as error:
        raise UserError(_describe(error, node, source, model, overrides or {})) from None


def _refuse_twice(root: Any, source: str) -> None:
    """YAML forbids a key that stands twice (1.2.2, section 3.2.1.1); PyYAML takes the last one."""
    waiting, seen = [root], set()
    while waiting:
        node = waiting.pop()
        if id(node) in seen or not isinstance(node, yaml.CollectionNode):
            continue
        seen.add(id(node))  # an alias leads to the same node again
        if isinstance(node, yaml.SequenceNode):
            waiting += node.value
            continue
        lines: dict[tuple[str, str], int] = {}
        for key, value in node.value:
            waiting.append(value)
            if not isinstance(key, yaml.ScalarNode) or key.tag == "tag:yaml.org,2002:merge":
                continue
            line, name = key.start_mark.line + 1, (key.tag, key.value)
            if name in lines:
                raise UserError(
                    f"{source}:{line}: the key '{key.value}' stands twice, first in line "
                    f"{lines[name]}; remove one"
                )
            lines[name] = line


def _set_dotted(value: dict[str, Any], path: list[str], override: Any) -> None:
    for part in path[:-1]:
        value = value.setdefault(part, {})
        if not isinstance(value, dict):
            raise UserError(f"override '{'.'.join(path)}': '{part}' is not a group of keys")
    value[path[-1]] = override


def _describe(
    error: ValidationError, node: Any, source: str, model: type[BaseModel], overrides: Iterable[str]
) -> str:
    # A misspelt required key is missing, too: the misspelling is what to say.
    first = min(error.errors(), key=lambda e: e["type"] != "extra_forbidden")
    location: Location = first["loc"]
    line = _line(node, location)
    where = f"{source}:{line}" if line else source
    key = ".".join(str(part) for part in location)
    if given := next((o for o in overrides if f"{key}.".startswith(f"{o}.")), None):
        where = f"override '{given}' of {source}"
    more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
    if first["type"] == "extra_forbidden":
        hint = nearest(str(location[-1]), _fields_at(model, location[:-1]))
        return f"{where}: unknown key '{key}'{hint}{more}"
    if first["type"] == "missing":
        return f"{where}: the key '{key}' is required{more}"
    message = first["msg"].removeprefix("Value error, ")
    return f"{where}: {f'{key}: ' if key else ''}{message}{more}"


def _line(node: Any, location: Location) -> int | None:
    """Line (from 1) of the deepest part of ``location`` that the YAML text holds."""
    line = None
    for part in location:
        if isinstance(node, yaml.MappingNode):
            for key, child in node.value:
                if key.value == str(part):
                    line, node = key.start_mark.line + 1, child
                    break
        elif isinstance(node, yaml.SequenceNode) and isinstance(part, int):
            if part < len(node.value):
                node = node.value[part]
                line = node.start_mark.line + 1
        else:
            break
    return line


def _fields_at(model: type[BaseModel], location: Location) -> list[str]:
    """Field names of the model that ``location`` points at."""
    for part in location:
        field = model.model_fields.get(str(part))
        if isinstance(part, int) or field is None:
            continue  # an item of a list, a key of a mapping
        candidates = [field.annotation, *_nested_args(field.annotation)]
        inner = [c for c in candidates if isinstance(c, type) and issubclass(c, BaseModel)]
        if not inner:
            return []
        model = inner[0]
    return list(model.model_fields)


def _nested_args(annotation: Any) -> list[Any]:
    args = list(get_args(annotation))
    return args + [inner for arg in args for inner in _nested_args(arg)]

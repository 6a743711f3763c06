"""Hugging Face data sets as what they are on disk: Arrow files, which workers read themselves."""

from pathlib import Path
from typing import Any

from olmeval.errors import UserError, nearest
from olmeval.trainer.build_spec import HUB, SourceSpec


def is_saved(path: Path) -> bool:
    """Whether a folder was written by ``save_to_disk``."""
    return any((path / name).is_file() for name in ("dataset_dict.json", "state.json"))


def saved_files(source: SourceSpec) -> list[Path]:
    """The Arrow files of a split of a saved data set, in order."""
    from datasets import DatasetDict, load_from_disk

    path = Path(source.path).expanduser()
    if not is_saved(path):
        raise UserError(f"'{source.path}' is not a data set that save_to_disk wrote")
    try:
        dataset = load_from_disk(str(path))
    except (OSError, ValueError, KeyError) as error:
        raise UserError(f"cannot read the data set '{path}': {error}") from None
    if isinstance(dataset, DatasetDict):
        if source.split not in dataset:
            raise UserError(
                f"the data set '{path}' has no split '{source.split}'"
                f"{nearest(source.split, dataset) or '; it has ' + ', '.join(dataset)}"
            )
        dataset = dataset[source.split]
    return _files(dataset, source)


def hub_files(source: SourceSpec) -> list[Path]:
    """The Arrow files of a data set of the hub, in order; downloads it into the hub's cache."""
    from datasets import load_dataset

    name, _, revision = source.path.removeprefix(HUB).partition("@")
    try:
        dataset = load_dataset(name, source.subset, split=source.split, revision=revision or None)
    # The hub's client fails in many ways, none of which is ours to tell apart.
    except Exception as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise UserError(f"cannot load '{source.path}' from the hub: {reason}") from None
    return _files(dataset, source)


def _files(dataset: Any, source: SourceSpec) -> list[Path]:
    import pyarrow as pa

    files = [Path(entry["filename"]) for entry in dataset.cache_files]
    rows = 0
    for file in files:
        with pa.memory_map(str(file)) as mapped, pa.ipc.open_stream(mapped) as stream:
            rows += sum(batch.num_rows for batch in stream)
    if rows != dataset.num_rows:
        raise UserError(
            f"'{source.path}' with split '{source.split}' is a selection of {dataset.num_rows:,} "
            f"of {rows:,} rows; save it with save_to_disk and build from that"
        )
    return files

"""Lists of instances, filtered, sorted and searched by DuckDB on the files of runs.

DuckDB reads the columns and row groups that a question needs, under a memory limit. What is kept:
the results of a few searches, and the joined instances of the pairs of runs that were asked for
last, since to read and join a million takes longer than to filter and sort them.
"""

import threading
import weakref
from collections import OrderedDict
from collections.abc import Sequence
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

from olmeval.errors import CorruptFileError
from olmeval.reports.view.asked import COUNTED, FILTERS, Asked
from olmeval.reports.view.catalog import Entry

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa

PAGE = 50
MEMORY = "400MB"
# Results of searches that are kept, so that turning pages does not search again.
KEPT = 16
# Pairs of runs that are kept joined, each 60 MB a million instances; DuckDB moves to disk what
# exceeds its memory.
PAIRS = 4

# Where filters of samples find their documents: the file, and its column that is true.
SAMPLES = {
    "cheats": ("verdicts.parquet", "suspected_cheat"),
    "unparsed": ("grades.parquet", "answer = ''"),
}
# The texts of all samples of an answer.
_TEXTS = "try_cast(samples as json)->>'$[*][0]'"
# An instance that could not be scored has no value.
_SIDE = """(
    select doc_id, native_id, {cluster} status,
           case when status = 'error' then null else value end as {value}
    from read_parquet(?) where task = ? and metric = ?)"""
# Where the data of two runs differ, the names of their questions do, too.
_PAIR = (
    "select a.*, b.w, b.status as other_status "
    "from {a} as a left join {b} as b using (doc_id, native_id)"
)


class _Pair:
    """A table in DuckDB's memory, dropped when nobody holds this any more."""

    def __init__(self, database: "duckdb.DuckDBPyConnection", name: str):
        self.name = name
        drop = weakref.finalize(self, database.cursor().execute, f"drop table if exists {name}")
        drop.atexit = False


class Instances:
    """Answers questions about the instances of runs; safe to use from many threads."""

    def __init__(self, folder: Path, threads: int = 2):
        """``folder`` is where DuckDB may put what exceeds its memory."""
        import duckdb

        self._database = duckdb.connect()
        self._database.execute(f"set memory_limit = '{MEMORY}'; set threads = {int(threads)}")
        self._database.execute("set temp_directory = ?", [str(folder)])
        self._lock = threading.Lock()
        self._kept: OrderedDict[tuple[object, ...], pa.Table] = OrderedDict()
        self._pairs: OrderedDict[tuple[object, ...], _Pair] = OrderedDict()
        self._joining = threading.Lock()
        self._numbers = count()

    def counts(self, asked: Asked) -> dict[str, int]:
        """How many instances each filter that applies leaves."""
        sums = ", ".join(f"count(*) filter ({FILTERS[name]})" for name in asked.filters)
        row = self._query(asked, f"select {sums} from rows", filters=asked.filters).fetchone()
        return dict(zip(asked.filters, row or (), strict=True))

    def total(self, asked: Asked) -> int:
        """How many instances the list has."""
        row = self._query(asked, "select count(*) from listed").fetchone()
        return int(row[0]) if row else 0

    def page(self, asked: Asked, offset: int = 0, limit: int = PAGE) -> list[dict[str, Any]]:
        """So many instances of the list, from ``offset`` on."""
        rows = self._query(
            asked,
            "select doc_id, native_id, status, v, w, other_status from listed "
            f"order by {asked.order} limit {int(limit)} offset {int(offset)}",
        ).fetchall()
        names = ("doc_id", "native_id", "status", "value", "other", "other_status")
        return [dict(zip(names, row, strict=True)) for row in rows]

    def position(self, asked: Asked, doc: int) -> int | None:
        """Where in the list a document is; None when it is not in it."""
        row = self._query(
            asked,
            "select place from (select doc_id, row_number() over "
            f"(order by {asked.order}) as place from listed) where doc_id = {int(doc)}",
        ).fetchone()
        return int(row[0]) - 1 if row else None

    def values(self, run: Entry, task: str, doc: int) -> list[dict[str, Any]]:
        """The rows of one instance, one a metric, as ``instances.parquet`` has them."""
        return self._rows(run.path / "instances.parquet", task, doc)

    def samples(self, run: Entry, task: str, doc: int) -> dict[int, dict[str, Any]]:
        """What graders and the sandbox made of the samples of one instance, by sample."""
        found: dict[int, dict[str, Any]] = {}
        for name in ("grades.parquet", "verdicts.parquet"):
            if (run.path / name).exists():
                for row in self._rows(run.path / name, task, doc):
                    found.setdefault(row["sample"], {}).update(row)
        return found

    def difference(self, asked: Asked) -> dict[str, Any] | None:
        """The paired difference of a metric, the other run's less this one's, and who flipped.

        ``value``, ``stderr`` (clustered where the task is), ``n``, and for metrics that say right
        or wrong ``lost`` and ``gained``; None when the two share no instance.
        """
        from olmeval.stats.mean import paired_difference

        clustered = asked.result.get("clusters") is not None
        source, values = _source(asked, "cluster," if clustered else "")
        found = self._execute(
            self._database.cursor(),
            f"select v, w{', cluster::varchar as cluster' if clustered else ''} from ({source}) "
            "where v is not null and w is not null",
            values,
        ).fetchnumpy()
        v, w = found["v"], found["w"]
        if not len(v):
            return None
        labels = None
        if clustered:  # a question without a cluster stands alone
            labels = [
                k if label is None else label for k, label in enumerate(found["cluster"].tolist())
            ]
        gap = paired_difference(w, v, labels)
        stderr = None if gap.stderr != gap.stderr else gap.stderr
        summary = {"value": gap.value, "stderr": stderr, "n": gap.n}
        if asked.judged:
            summary["lost"] = int(((v >= 0.5) & (w < 0.5)).sum())
            summary["gained"] = int(((v < 0.5) & (w >= 0.5)).sum())
        return summary

    def _query(
        self, asked: Asked, select: str, filters: Sequence[str] = ()
    ) -> "duckdb.DuckDBPyConnection":
        """``select`` over ``rows``, all instances of the task, and ``listed``, those asked for."""
        cursor = self._database.cursor()
        pair = None if asked.other is None else self._pair(asked)
        source, values = _source(asked) if pair is None else (f"from {pair.name}", [])
        where = f"({FILTERS[asked.filter]})"
        if asked.text:
            cursor.register("hits", self._hits(asked))
            where += " and doc_id in (select doc_id from hits)"
        for name in {*filters, asked.filter} & COUNTED.keys():
            docs = self._length_limited(asked) if name == "length" else self._marked(asked, name)
            cursor.register(name, docs)
        parts = f"rows as ({source}), listed as (select * from rows where {where})"
        return self._execute(cursor, f"with {parts} {select}", values)

    def _pair(self, asked: Asked) -> _Pair:
        """The joined instances of two runs, read once for as long as their files are the same."""
        runs = [run for run in (asked.run, asked.other) if run is not None]
        files = [run.path / "instances.parquet" for run in runs]
        key = (asked.task, asked.metric, *((file, _stamp(file)) for file in files))
        with self._joining:  # a page and its counts are asked for at the same time
            pair = self._pairs.get(key)
            if pair is None:
                pair = _Pair(self._database, f"pair_{next(self._numbers)}")
                source, values = _source(asked)
                self._execute(
                    self._database.cursor(), f"create table {pair.name} as {source}", values
                )
                self._pairs[key] = pair
            self._pairs.move_to_end(key)
            while len(self._pairs) > PAIRS:
                self._pairs.popitem(last=False)
        return pair

    def _hits(self, asked: Asked) -> "pa.Table":
        """The documents whose prompt, choices, answers or name hold the text that is searched.

        Upper and lower case are one unless the text has an upper-case letter.
        """
        text = asked.text

        def inside(column: str) -> str:
            return f"contains({column if text != text.lower() else f'lower({column})'}, $text)"

        places = [f"{inside('context')} or {inside('continuation')}"]
        if asked.generates:
            texts = f"select key, unnest({_TEXTS}) as written from read_parquet($responses)"
            places.append(f"key in (select key from ({texts}) where {inside('written')})")
        return self._documents(asked, " or ".join(places), text, inside("native_id"))

    def _length_limited(self, asked: Asked) -> "pa.Table":
        """The documents of which a sample ended at the limit of tokens."""
        ended = "list_contains(try_cast(samples as json)->>'$[*][3]', 'length')"
        return self._documents(
            asked, f"key in (select key from read_parquet($responses) where {ended})"
        )

    def _marked(self, asked: Asked, name: str) -> "pa.Table":
        """The documents of which a sample is marked in a file of samples."""
        import pyarrow as pa

        file, where = SAMPLES[name]
        found = []
        for run in (asked.run, asked.other):
            if run is not None and (run.path / file).exists():
                cursor = self._execute(
                    self._database.cursor(),
                    f"select distinct doc_id from read_parquet(?) where task = ? and {where}",
                    [str(run.path / file), asked.task],
                )
                found.append(pa.array(cursor.fetchnumpy()["doc_id"], pa.int64()))
        return pa.table({"doc_id": pa.chunked_array(found, pa.int64())})

    def _documents(self, asked: Asked, where: str, text: str = "", named: str = "") -> "pa.Table":
        """``doc_id`` of what has a request for which ``where`` holds, in either run; kept."""
        import pyarrow as pa

        runs = [run for run in (asked.run, asked.other) if run is not None]
        files = [run.path / "requests.parquet" for run in runs]
        key = (asked.task, where, text, *((file, _stamp(file)) for file in files))
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key]
        found = []
        for run in runs:
            path = run.path / "requests.parquet"
            first, last = task_rows(path, asked.task)
            values = {
                "requests": str(path), "responses": str(run.path / "responses.parquet"),
                "instances": str(run.path / "instances.parquet"),
                "task": asked.task, "text": text, "first": first, "last": last,
            }  # fmt: skip
            query = (
                "select distinct used.doc_id from (select unnest(uses) as used "
                "from read_parquet($requests, file_row_number = true) "
                f"where file_row_number between $first and $last and ({where})) "
                "where used.task = $task"
            )
            if named:
                query += (
                    " union select distinct doc_id from read_parquet($instances) "
                    f"where task = $task and {named}"
                )
            used = {name: value for name, value in values.items() if f"${name}" in query}
            docs = self._execute(self._database.cursor(), query, used).fetchnumpy()["doc_id"]
            found.append(pa.table({"doc_id": pa.array(docs, pa.int64())}))
        table = pa.concat_tables(found)
        with self._lock:
            self._kept[key] = table
            while len(self._kept) > KEPT:
                self._kept.popitem(last=False)
        return table

    def _rows(self, path: Path, task: str, doc: int) -> list[dict[str, Any]]:
        cursor = self._execute(
            self._database.cursor(),
            "select * from read_parquet(?) where task = ? and doc_id = ?",
            [str(path), task, doc],
        )
        names = [column[0] for column in cursor.description or ()]
        return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]

    def _execute(
        self, cursor: "duckdb.DuckDBPyConnection", query: str, values: Any
    ) -> "duckdb.DuckDBPyConnection":
        import duckdb

        try:
            return cursor.execute(query, values)
        except (duckdb.IOException, duckdb.InvalidInputException) as error:
            first = str(error).splitlines()[0]
            raise CorruptFileError(
                f"the files of a run cannot be read ({first}); delete its Parquet files and give "
                "its `olmeval run` command again"
            ) from None


def task_rows(path: Path, task: str) -> tuple[int, int]:
    """First and last row of ``requests.parquet`` that may be of ``task``, by its statistics."""
    import pyarrow.parquet as pq

    first, last, at = None, -1, 0
    with pq.ParquetFile(path) as file:
        about = file.metadata
        for number in range(about.num_row_groups):
            group = about.row_group(number)
            names = {group.column(k).path_in_schema: k for k in range(group.num_columns)}
            statistics = group.column(names["uses.list.element.task"]).statistics
            if (
                statistics is None
                or not statistics.has_min_max
                or statistics.min <= task <= statistics.max
            ):
                first, last = at if first is None else first, at + group.num_rows - 1
            at += group.num_rows
    return (0 if first is None else first), last


def _source(asked: Asked, cluster: str = "") -> tuple[str, list[object]]:
    """SQL of all instances of the task, and its values; ``cluster``: a column to have besides."""
    a, b = _SIDE.format(value="v", cluster=cluster), _SIDE.format(value="w", cluster="")
    values: list[object] = [str(asked.run.path / "instances.parquet"), asked.task, asked.metric]
    if asked.other is None:
        return f"select *, null::double as w, null::varchar as other_status from {a}", values
    beside = [str(asked.other.path / "instances.parquet"), asked.task, asked.metric]
    return _PAIR.format(a=a, b=b), values + beside


def _stamp(path: Path) -> tuple[int, int, int]:
    """Changes when the file is written again."""
    about = path.stat()
    return about.st_mtime_ns, about.st_size, about.st_ino

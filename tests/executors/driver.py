"""A driver to be interrupted: two jobs that work for minutes, on the executor of the arguments."""

import sys
from pathlib import Path

from olmeval.executors.registry import make_executor
from tests.executors import jobs


def main() -> None:
    name, function, folder = sys.argv[1:]
    with make_executor(name, 2) as executor:
        for done in executor.map(getattr(jobs, function), [(Path(folder), 300.0)] * 2):
            raise AssertionError(done)


if __name__ == "__main__":
    main()

"""Fits one target with the public olmix, and prints its CPU seconds and its rank on unseen rows.

Runs in an environment that has the public olmix (github.com/allenai/olmix), so it imports nothing
of ours; `benchmarks/mixing.py --olmix PYTHON` calls it. Its arguments are a family ("log_linear"
or "gp") and an .npz file with X [K, m], y [K], test_X [T, m] and test_y [T].
"""

import json
import sys
import time

import numpy as np
from scipy.stats import spearmanr

FAMILY, ROWS = sys.argv[1:]


def main() -> None:
    """Prints {"seconds": CPU seconds with those of its workers, "rank": Spearman's rho}."""
    from olmix.fit.utils import GPRegressor, LogLinearRegressor

    rows = np.load(ROWS)
    model = {"log_linear": LogLinearRegressor, "gp": GPRegressor}[FAMILY]()
    start = time.process_time(), _of_children()
    model.fit(rows["X"], rows["y"][:, None], 0)
    seconds = time.process_time() - start[0] + _of_children() - start[1]
    rank = spearmanr(model.predict(rows["test_X"]), rows["test_y"]).statistic
    print(json.dumps({"seconds": seconds, "rank": float(rank)}))


def _of_children() -> float:
    import resource

    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    main()

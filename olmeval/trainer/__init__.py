"""A compact trainer for OLMo-2 models: one process, exact resume, honest sampling.

Importing it before torch sets passive OpenMP waiting: threads that spin while they wait starve the
other workers of a machine, and a small model trains several times slower for it.
"""

import os

os.environ.setdefault("OMP_WAIT_POLICY", "passive")
os.environ.setdefault("KMP_BLOCKTIME", "0")

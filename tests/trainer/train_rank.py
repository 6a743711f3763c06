"""Trains recipes, one after another; what torchrun starts in the tests.

torchrun --nproc-per-node 2 tests/trainer/train_rank.py RECIPE.yaml JOBS.json: JOBS is a list of
[overrides, output folder, stop at the first line of the log].
"""

import json
import sys
from pathlib import Path

import torch

from olmeval.config import load_config
from olmeval.trainer.loop import train
from olmeval.trainer.recipe import Recipe

if __name__ == "__main__":
    torch.set_num_threads(1)
    recipe, jobs = map(Path, sys.argv[1:])
    for overrides, output, stop in json.loads(jobs.read_text()):
        train(
            load_config(recipe, Recipe, overrides),
            Path(output),
            progress=False,
            max_minutes=0 if stop else None,
        )

"""From domains to a mixture, and the day after: the whole of olmix on one small machine.

    python benchmarks/mix_end_to_end.py [--output mix-demo] [--proxies 24] [--tokens 300000]

All of it through the commands. First five domains of the demo corpus: a swarm of proxies, fit,
optimum, then the optimized and the natural mixture trained anew, three seeds each. Then a sixth
domain is added: `olmix reuse` with its smaller swarm, beside a full swarm over six domains, both
optima trained with three seeds. The target suite is in bits per byte: lower is better; ± is two
standard errors over seeds. Called again with the same output, it goes on.
"""

import argparse
import csv
import subprocess
import sys
import time
from pathlib import Path
from statistics import mean, stdev

import yaml
from common import machine

from olmeval.mixing.domains import load_domains
from olmeval.trainer.corpus import build_demo_corpus

FIRST = ("arithmetic", "code", "facts", "noise", "prose")
ADDED = "patterns"
TASKS = (
    "basic_skills_arithmetic:bpb:0shot", "basic_skills_coding:bpb:0shot",
    "codex_humaneval:bpb:0shot", "minerva_math_algebra:bpb:0shot",
)  # fmt: skip
SEEDS = (101, 102, 103)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=Path("mix-demo"))
    parser.add_argument("--proxies", type=int, default=24)
    parser.add_argument("--tokens", type=int, default=300_000, help="of a proxy")
    parser.add_argument("--limit", type=int, default=100, help="documents a task")
    args = parser.parse_args()
    print(machine())
    corpus = build_demo_corpus()
    out: Path = args.output
    out.mkdir(parents=True, exist_ok=True)
    step = Steps(corpus, out, args.tokens, args.limit)

    started = time.perf_counter()
    domains = ["--domain=" + d for d in FIRST]
    olmix("priors", corpus, *domains, "--output", out / "old.yaml")
    best = step.optimum("old", out / "old.yaml", args.proxies)
    tree = load_domains(out / "old.yaml")
    natural = dict(zip(tree.names, tree.prior().tolist(), strict=True))
    confirmed = step.confirm("old", {"optimized": best, "natural": natural})
    minutes = (time.perf_counter() - started) / 60
    print(f"{args.proxies} proxies, fit, optimum, confirmation: {minutes:.1f} min")
    print("optimized:", ", ".join(f"{d} {w:.3f}" for d, w in best.items()))
    report("natural", confirmed["natural"])
    report("optimized", confirmed["optimized"])
    gain, error = difference(confirmed["natural"], confirmed["optimized"])
    print(f"gain {gain:.4f} ± {error:.4f} bits per byte; noise {best.get('noise', 0):.3f}")

    olmix("priors", corpus, "--output", out / "new.yaml")
    arguments = ("--mix", out / "old/mix/mix.yaml", "--output", out / "update")
    olmix("reuse", out / "old.yaml", out / "new.yaml", *arguments)
    reused = step.optimum("reused", out / "update/domains.yaml", None)
    full = step.optimum("full", out / "new.yaml", args.proxies)
    confirmed = step.confirm("new", {"reused": reused, "full": full})
    print(f"{ADDED} added: {step.count['reused']} proxies instead of {step.count['full']}")
    report("reused", confirmed["reused"])
    report("full", confirmed["full"])
    gain, error = difference(confirmed["reused"], confirmed["full"])
    print(f"the full recomputation is better by {gain:.4f} ± {error:.4f} bits per byte")


class Steps:
    """The steps that both parts share."""

    def __init__(self, corpus: Path, output: Path, tokens: int, limit: int) -> None:
        self.output = output
        self.count: dict[str, int] = {}
        self.recipe = (
            "cpu-0.7m", f"data.root={corpus}", f"train.tokens={tokens}", "data.repeat=clip",
            "train.precision=bfloat16", "train.batch_size=4", "optimizer.lr=6e-3",
            "checkpoint.every=100000",
        )  # fmt: skip
        self.score = [f"--tasks={task}" for task in TASKS] + [f"--limit={limit}"]

    def optimum(self, name: str, domains: Path, runs: int | None) -> dict[str, float]:
        """Swarm, proxies, fit and optimum; the mixture's shares."""
        out = self.output / name
        size = [] if runs is None else [f"--runs={runs}"]
        olmix("swarm", domains, *size, "--output", out)
        blocks = ("--domains", domains)
        olmix("launch", out / "ratios.csv", *self.recipe, *self.score, *blocks, "--output", out)
        tables = (out / "ratios.csv", out / "metrics.csv")
        self.count[name] = sum(1 for _ in tables[0].open()) - 1
        olmix("fit", *tables, "--output", out / "fit")
        olmix("optimize", out / "fit", "--domains", domains, "--output", out / "mix")
        return yaml.safe_load((out / "mix/mix.yaml").read_text())["mixture"]

    def confirm(self, name: str, mixtures: dict[str, dict[str, float]]) -> dict[str, list[float]]:
        """The suite's score of every mixture and seed."""
        out = self.output / f"{name}-confirmed"
        out.mkdir(exist_ok=True)
        domains = sorted({d for weights in mixtures.values() for d in weights})
        with (out / "mixtures.csv").open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["run", *domains])
            for mixture, weights in mixtures.items():
                writer.writerow([mixture, *(weights.get(d, 0.0) for d in domains)])
        seeds = [f"--seed={seed}" for seed in SEEDS]
        olmix("launch", out / "mixtures.csv", *self.recipe, *self.score, *seeds, "--output", out)
        with (out / "metrics.csv").open() as file:
            rows = {
                row.pop("run"): [float(v) for v in row.values()] for row in csv.DictReader(file)
            }
        return {m: [mean(v) for run, v in rows.items() if run.startswith(m)] for m in mixtures}


def olmix(*arguments: object) -> None:
    """One command, as a user calls it."""
    words = [str(a) for a in arguments]
    quiet = ["--quiet"] if words[0] == "launch" else []
    command = [sys.executable, "-m", "olmeval.cli.olmix", *words, *quiet]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"olmix {' '.join(words)}\n{done.stderr}")


def report(name: str, scores: list[float]) -> None:
    error = 2 * stdev(scores) / len(scores) ** 0.5
    print(f"{name:10} {mean(scores):.4f} ± {error:.4f} bits per byte over {len(scores)} seeds")


def difference(a: list[float], b: list[float]) -> tuple[float, float]:
    """Mean of a minus that of b, and twice its standard error."""
    error = (stdev(a) ** 2 / len(a) + stdev(b) ** 2 / len(b)) ** 0.5
    return mean(a) - mean(b), 2 * error


if __name__ == "__main__":
    main()

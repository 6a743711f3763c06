"""From domains to a mixture, and the day after: the whole of olmix on one small machine.

    python benchmarks/mix_end_to_end.py [--output mix-demo] [--proxies 24] [--tokens 500000]

All of it through the commands. First five domains of the demo corpus: a swarm of proxies, fit,
optimum, then the optimized and the natural mixture trained anew, three seeds each. Then a sixth
domain is added with a target of its own: `olmix reuse` with its smaller swarm, beside a full swarm
over six domains, both optima trained with three seeds. Last, contents of a domain are changed, and
the evidence of before is refused.

The target suite asks for sums, facts and programs: documents of these domains that no model saw,
HumanEval and Basic Skills; the natural mixture spends two fifths on prose and shuffled words. Of
four settings that take as long (widths 32 to 64, batches of 2 to 8, learning rates), the one of
least loss on the natural mixture was taken, and targets whose spread over five mixtures was twice
their spread over seeds or more. All in bits per byte: lower is better; ± is two standard errors
over seeds, which no mixture was chosen by. Swarms are drawn with strengths 3 to 30, nearer to the
natural mixture than by default: among the first 24 proxies, drawn with 0.1 to 5, was one of facts
alone at 8 to 11 bits per byte of everything else, which no law fits together with the rest. Called
again with the same output, it goes on.
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
from olmeval.trainer.held_out import write_held_out_tasks

FIRST = ("arithmetic", "code", "facts", "noise", "prose")
ADDED = "patterns"
CORPUS_TOKENS = 600_000
"""Of each domain; prose has 0.7 M, and some is to be held out."""
HELD_OUT = ("arithmetic", "code", "facts", ADDED)
BENCHMARKS = ("codex_humaneval:bpb:0shot", "basic_skills_coding:bpb:0shot")
SEEDS = (101, 102, 103)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=Path("mix-demo"))
    parser.add_argument("--proxies", type=int, default=24)
    parser.add_argument("--tokens", type=int, default=500_000, help="of a proxy")
    parser.add_argument("--limit", type=int, default=64, help="documents a task")
    args = parser.parse_args()
    print(machine())
    started = time.perf_counter()
    out: Path = args.output
    corpus = build_demo_corpus(out / "corpus", CORPUS_TOKENS)
    tasks = write_held_out_tasks(corpus, out / "tasks", HELD_OUT)
    first = [*(t for t in tasks if not t.endswith(ADDED)), *BENCHMARKS]
    step = Steps(corpus, out, args.tokens, args.limit, first)
    domains = ["--domain=" + d for d in FIRST]
    olmix("priors", corpus, *domains, "--output", out / "old.yaml")
    best = step.optimum("old", out / "old.yaml", args.proxies)
    tree = load_domains(out / "old.yaml")
    natural = dict(zip(tree.names, tree.prior().tolist(), strict=True))
    confirmed = step.confirm("old", {"optimized": best, "natural": natural})
    print(f"corpus, {args.proxies} proxies, fit, optimum, confirmation: {minutes(started)}")
    print("optimized:", shares(best))
    report("natural", confirmed["natural"])
    report("optimized", confirmed["optimized"])
    gain, error = difference(confirmed["natural"], confirmed["optimized"])
    print(f"gain {gain:.4f} ± {error:.4f} bits per byte; noise {best.get('noise', 0):.3f}")

    started = time.perf_counter()
    step.tasks = [*tasks, *BENCHMARKS]
    olmix("priors", corpus, "--output", out / "new.yaml")
    arguments = ("--mix", out / "old/mix/mix.yaml", "--output", out / "update")
    olmix("reuse", out / "old.yaml", out / "new.yaml", *arguments)
    reused = step.optimum("reused", out / "update/domains.yaml", None)
    full = step.optimum("full", out / "new.yaml", args.proxies)
    confirmed = step.confirm("new", {"reused": reused, "full": full})
    print(f"{ADDED} added: {step.count['reused']} proxies instead of {step.count['full']}; both, "
          f"fits, optima and confirmation: {minutes(started)}")  # fmt: skip
    print("reused:", shares(reused))
    print("full:  ", shares(full))
    report("reused", confirmed["reused"])
    report("full", confirmed["full"])
    gain, error = difference(confirmed["reused"], confirmed["full"])
    print(f"the full recomputation is better by {gain:.4f} ± {error:.4f} bits per byte")
    print("after a revision of facts:", revised(out))


class Steps:
    """The steps that both parts share."""

    def __init__(
        self, corpus: Path, output: Path, tokens: int, limit: int, tasks: list[str]
    ) -> None:
        self.output, self.limit, self.tasks = output, limit, tasks
        self.count: dict[str, int] = {}
        self.recipe = (
            "cpu-0.7m", f"data.root={corpus}", "data.verify=size", "data.repeat=clip",
            "model.hidden_size=32", "model.intermediate_size=96", "model.num_hidden_layers=2",
            f"train.tokens={tokens}", "train.seq_len=128", "train.batch_size=8",
            "optimizer.lr=4.8e-2", "checkpoint.every=100000",
        )  # fmt: skip

    def launch(self, ratios: Path, output: Path, *arguments: object) -> None:
        score = [f"--tasks={task}" for task in self.tasks]
        score += [f"--limit={self.limit}", f"--task-path={self.output / 'tasks'}"]
        olmix("launch", ratios, *self.recipe, *score, *arguments, "--output", output)

    def optimum(self, name: str, domains: Path, runs: int | None) -> dict[str, float]:
        """Swarm, proxies, fit and optimum; the mixture's shares."""
        out = self.output / name
        size = [] if runs is None else [f"--runs={runs}"]
        olmix("swarm", domains, *size, "--strength", 3, 30, "--output", out)
        self.launch(out / "ratios.csv", out, "--domains", domains)
        tables = (out / "ratios.csv", out / "metrics.csv")
        self.count[name] = sum(1 for _ in tables[0].open()) - 1
        print(f"--- {name}")
        print(olmix("fit", *tables, "--output", out / "fit"))
        print(olmix("optimize", out / "fit", "--domains", domains, "--output", out / "mix"))
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
        self.launch(out / "mixtures.csv", out, *seeds)
        with (out / "metrics.csv").open() as file:
            rows = {
                row.pop("run"): [float(v) for v in row.values()] for row in csv.DictReader(file)
            }
        return {m: [mean(v) for run, v in rows.items() if run.startswith(m)] for m in mixtures}


def revised(out: Path) -> str:
    """What `olmix optimize` says of the fit when a domain's contents have changed."""
    domains = yaml.safe_load((out / "new.yaml").read_text())
    domains["domains"]["facts"]["fingerprint"] = "0" * 16
    (out / "revised.yaml").write_text(yaml.safe_dump(domains))
    arguments = ("--domains", out / "revised.yaml", "--output", out / "refused")
    return olmix("optimize", out / "full/fit", *arguments, refused=True).strip()


def olmix(*arguments: object, refused: bool = False) -> str:
    """One command, as a user calls it: what it prints, or why it refuses."""
    words = [str(a) for a in arguments]
    quiet = ["--quiet"] if words[0] == "launch" else []
    command = [sys.executable, "-m", "olmeval.cli.olmix", *words, *quiet]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if (done.returncode != 0) != refused:
        sys.exit(f"olmix {' '.join(words)} ended with {done.returncode}\n{done.stderr}")
    return done.stderr if refused else done.stdout


def shares(mixture: dict[str, float]) -> str:
    return ", ".join(f"{domain} {share:.3f}" for domain, share in sorted(mixture.items()))


def minutes(started: float) -> str:
    return f"{(time.perf_counter() - started) / 60:.1f} min"


def report(name: str, scores: list[float]) -> None:
    error = 2 * stdev(scores) / len(scores) ** 0.5
    print(f"{name:10} {mean(scores):.4f} ± {error:.4f} bits per byte over {len(scores)} seeds")


def difference(a: list[float], b: list[float]) -> tuple[float, float]:
    """Mean of a minus that of b, and twice its standard error."""
    error = (stdev(a) ** 2 / len(a) + stdev(b) ** 2 / len(b)) ** 0.5
    return mean(a) - mean(b), 2 * error


if __name__ == "__main__":
    main()

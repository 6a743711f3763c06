"""Plans and results of ``olmeval train`` as tables for a terminal."""

from typing import Any

from rich.console import Console
from rich.table import Table

About = dict[str, Any]


def print_plan(about: About) -> None:
    """Prints what :meth:`Plan.describe` says, with its ``estimate``."""
    console = Console()
    table = Table(title=f"{about['run']} (family {about['family']})", show_header=False)
    for name, value in _rows(about):
        table.add_row(name, value)
    console.print(table)
    mix = Table("domain", title=f"mixture {about['mix']}")
    for name in ("weight", "realised", "tokens", "epochs"):
        mix.add_column(name, justify="right")
    for row in about["domains"]:
        mix.add_row(
            row["domain"],
            f"{row['weight']:.4f}",
            f"{row['realised']:.4f}",
            f"{row['tokens']:,}",
            f"{row['epochs']:.2f}",
        )
    console.print(mix)
    for sentence in about["clipped"]:
        console.print(sentence, markup=False, highlight=False)


def _rows(about: About) -> list[tuple[str, str]]:
    model, schedule = about["model"], about["schedule"]
    shape = (
        f"width {model['hidden_size']}, {model['num_hidden_layers']} layers, "
        f"{model['num_attention_heads']} heads, vocabulary {model['vocab_size']:,}"
    )
    if model["sliding_window"]:
        shape += f", window {model['sliding_window']:,}"
    if model["yarn"]:
        shape += f", YaRN {model['yarn']['factor']:g}"
    params = f"{about['params']:,} without input embedding, {about['params_total']:,} all"
    multiple = about["tokens"] / (20 * about["params"])
    return [
        ("model", shape),
        ("parameters", params),
        *([("start", about["start"])] if about["start"] else []),
        ("tokens", f"{about['tokens']:,} ({multiple:.3g} times 20 a parameter)"),
        (
            "steps",
            f"{about['steps']:,} of {about['batch_size']} sequences of {about['seq_len']:,} = "
            f"{about['batch_tokens']:,} tokens",
        ),
        ("FLOPs", f"{about['flops']:.3e}"),
        ("learning rate", f"{about['lr']:.4g} ({about['optimizer']}), {_schedule(schedule)}"),
        ("checkpoints", f"{about['checkpoints']}"),
        ("evaluation", _evaluation(about["evaluation"])),
        ("time", time_of(about["estimate"])),
        ("memory", _memory(about["estimate"])),
    ]


def _schedule(schedule: About) -> str:
    parts = [schedule["kind"], f"warm-up {schedule['warmup']:,} tokens"]
    if schedule["kind"] == "wsd":
        parts.append(f"decay {schedule['decay']:,.0f} tokens")
    if schedule["kind"] == "wsds":
        ends = ", ".join(f"{end:,}" for end in schedule["ends"])
        parts.append(f"periods to {ends} tokens")
    if schedule["kind"] != "constant":
        parts.append(f"to {schedule['final']:g} of the peak")
    return ", ".join(parts)


def _evaluation(about: About | None) -> str:
    if about is None:
        return "none"
    documents = "all" if about["limit"] is None else f"{about['limit']:,}"
    return f"{', '.join(about['tasks'])} every {about['every']:,} steps, {documents} documents each"


def time_of(estimate: About) -> str:
    """Hours, and what they were worked out from."""
    if estimate["gpu"] is None:
        return "unknown without a GPU: give --gpu h100, or --peak-tflops"
    if estimate["mfu"] is None:
        return "unknown: FLOPs do not bound so small a model; give --mfu of a run like it"
    text = f"{_hours(estimate['hours'])} on {estimate['gpus']} x {estimate['gpu']}"
    text += f", {estimate['tokens_per_second']:,.0f} tokens/s, at {estimate['mfu']:.0%} MFU"
    return text + (" (assumed)" if estimate["mfu_assumed"] else "")


def _hours(hours: float) -> str:
    return f"{hours:,.1f} h" if hours >= 1 else f"{hours * 60:,.1f} min"


def _memory(estimate: About) -> str:
    sizes = estimate["memory_bytes"]
    parts = [f"{name} {_bytes(size)}" for name, size in sizes.items() if size and name != "total"]
    text = f"{_bytes(sizes['total'])} a device (estimate): {', '.join(parts)}"
    if estimate["capacity_bytes"] and sizes["total"] > estimate["capacity_bytes"]:
        text += f"; more than the {_bytes(estimate['capacity_bytes'])} of one {estimate['gpu']}: "
        text += "lower train.micro_batch_size, or set train.activation_checkpointing"
    return text


def _bytes(size: float) -> str:
    return f"{size / 2**30:.1f} GiB" if size >= 2**30 else f"{size / 2**20:.0f} MiB"


def print_swarm_plan(rows: list[About]) -> None:
    """Prints the plans of a swarm's runs, one a line, and their sum."""
    table = Table("run", "mixture", title=f"swarm of {len(rows)} runs")
    for name in ("parameters", "tokens", "FLOPs"):
        table.add_column(name, justify="right")
    for row in rows:
        mixture = ", ".join(f"{d['domain']} {d['realised']:.2f}" for d in row["domains"])
        numbers = f"{row['params']:,}", f"{row['tokens']:,}", f"{row['flops']:.3e}"
        table.add_row(row["run"], mixture, *numbers)
    console = Console()
    console.print(table)
    hours = [row["estimate"]["hours"] for row in rows]
    total = f"{sum(row['tokens'] for row in rows):,} tokens, {sum(r['flops'] for r in rows):.3e}"
    time = "" if None in hours else f"; {_hours(sum(hours))} of one {rows[0]['estimate']['gpu']}"
    console.print(f"together {total} FLOPs{time}", highlight=False)


def print_swarm(result: About) -> None:
    """Prints the rows of a finished swarm."""
    table = Table("run", "status")
    for name in ("loss", "tokens", "seconds"):
        table.add_column(name, justify="right")
    for row in result["proxies"]:
        loss = "" if row["loss"] is None else f"{row['loss']:.4f}"
        seconds = "" if row["seconds"] is None else f"{row['seconds']:.1f}"
        table.add_row(row["run"], row["status"], loss, f"{row['tokens']:,}", seconds)
    console = Console()
    console.print(table)
    for row in result["proxies"]:
        if row["error"]:
            first = row["error"].splitlines()[0]
            console.print(f"{row['run']}: {first}", markup=False, highlight=False)
    console.print(f"{result['output']}: {result['seconds']:.0f} s", highlight=False)

"""A gate's report for machines and people: JUnit XML, Markdown, JSON, GitHub annotations."""

from dataclasses import asdict
from typing import Any
from xml.etree import ElementTree

from olmeval.analysis.gate import Finding, GateReport

MARKS = {
    "ok": "✅", "regressed": "❌", "drifting": "📉", "unknown": "❓", "skipped": "➖",
}  # fmt: skip


def junit(report: GateReport) -> str:
    """JUnit XML: worse is a failure, what cannot be told an error, optional and absent skipped."""
    verdicts = [f.verdict for f in report.findings]
    counts = {
        "tests": len(verdicts),
        "failures": verdicts.count("regressed") + verdicts.count("drifting"),
        "errors": verdicts.count("unknown"),
        "skipped": verdicts.count("skipped"),
    }
    root = ElementTree.Element("testsuites")
    suite = ElementTree.SubElement(root, "testsuite", name="olmeval gate")
    for name, count in counts.items():
        suite.set(name, str(count))
    tags = {
        "regressed": "failure", "drifting": "failure", "unknown": "error", "skipped": "skipped",
    }  # fmt: skip
    for f in report.findings:
        case = ElementTree.SubElement(
            suite, "testcase", classname=_printable(report.run), name=_printable(f.name)
        )
        if f.verdict in tags:
            tag = ElementTree.SubElement(case, tags[f.verdict], message=_printable(f.reason))
            tag.text = _printable(_sentence(f))
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding="unicode", xml_declaration=True) + "\n"


def markdown(report: GateReport) -> str:
    """A table for a job summary or a comment."""
    lines = [
        f"### {_escaped(report.run)} against {_escaped(report.baseline)}: "
        f"{_escaped(report.summary)}",
        "",
        "| | task | baseline | now | worse by | ± | detectable | n | |",
        "|-|-|-:|-:|-:|-:|-:|-:|-|",
    ]
    for f in report.findings:
        numbers = " | ".join(
            "" if v != v else f"{v:.4f}"
            for v in (f.baseline, f.value, f.drop, f.stderr, f.detectable)
        )
        name, reason = _escaped(f.name), _escaped(f.reason)
        lines.append(f"| {MARKS[f.verdict]} | {name} | {numbers} | {f.n} | {reason} |")
    lines += [
        "",
        f"An unchanged model fails such a check in at most {100 * report.false_alarm:g} % of "
        "cases. *detectable* is the smallest true drop that is found with 80 % power.",
    ]
    return "\n".join(lines) + "\n"


def as_json(report: GateReport) -> dict[str, Any]:
    """The report as plain data; numbers that are not known are None."""
    findings = [
        {k: None if isinstance(v, float) and v - v != 0 else v for k, v in asdict(f).items()}
        for f in report.findings
    ]
    return {
        "run": report.run, "baseline": report.baseline, "exit_code": report.exit_code,
        "summary": report.summary, "false_alarm": report.false_alarm, "findings": findings,
    }  # fmt: skip


def annotations(report: GateReport) -> list[str]:
    """Workflow commands of GitHub Actions: an error a regression, a warning what is not known."""
    kinds = {"regressed": "error", "drifting": "error", "unknown": "warning"}
    return [
        f"::{kinds[f.verdict]} title={_command(f'{f.verdict}: {f.name}', True)}::"
        f"{_command(_sentence(f))}"
        for f in report.findings
        if f.verdict in kinds
    ]


def _sentence(f: Finding) -> str:
    if f.value != f.value:
        return f"{f.name}: {f.reason}"
    return (
        f"{f.name} ({f.metric}): {f.baseline:.4f} before, {f.value:.4f} now, "
        f"worse by {f.drop:.4f} ± {f.stderr:.4f}; {f.reason}"
    )


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace("|", "\\|").replace("\n", " ").replace("<", "&lt;")


def _printable(text: str) -> str:
    """Without characters that XML 1.0 forbids."""
    return "".join(c if c in "\t\n" or c >= " " else "�" for c in text)


def _command(text: str, of_property: bool = False) -> str:
    """Escaped for a workflow command (actions/toolkit, packages/core/src/command.ts)."""
    text = text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")
    return text.replace(":", "%3A").replace(",", "%2C") if of_property else text

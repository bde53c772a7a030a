"""The findings of `norface check CORPUS ROOT`, for a script (json) and for a person (a table)."""

from __future__ import annotations

from norface.config import Config
from norface.data.label_counts import Labels, Parts, format_parts, format_rates
from norface.data.rehearsal import SAID


class Count(Config):
    """A number of the corpus beside the one that its papers give."""

    what: str
    "samples, subjects, or samples/SPLIT."
    found: int
    published: int

    @property
    def missing(self) -> int:
        """How many there are fewer than published, 0 where there are more."""
        return max(self.published - self.found, 0)


class Finding(Config):
    """One thing that is missing, damaged or could not be used."""

    place: str
    what: str


class CorpusReport(Config):
    """All that `norface check CORPUS ROOT` finds."""

    corpus: str
    root: str
    rehearsal: bool = False
    "Whether the folder holds synthetic faces (`norface synth --layout`)."
    decoded: bool
    "Whether pictures were decoded; else only their files were looked for."
    published: list[Count] = []
    splits: dict[str, int] = {}
    all: Labels
    by_part: Parts
    missing: list[Finding] = []
    damaged: list[Finding] = []
    same_pictures: list[Finding] = []
    "Pictures that are byte for byte those of an earlier sample (only when decoded)."
    left_out: dict[str, int] = {}
    "Rule of the corpus => samples that are sound but no samples of its task."
    problems: list[Finding] = []
    "What the reader could not use: rows out of range, double keys, ..."

    @property
    def sound(self) -> bool:
        """Nothing missing, nothing damaged. Repeated pictures and unlisted subjects are remarks."""
        fewer = any(count.missing for count in self.published)
        return not (fewer or self.missing or self.damaged or self.problems)


def format_report(report: CorpusReport, most: int = 20) -> str:
    """A table for a person; at most `most` findings of each kind are listed."""
    everything = report.all
    lines = [
        f"{report.corpus} in {report.root}: {everything.samples} samples of {everything.subjects}"
        f" subjects; pictures were {'decoded' if report.decoded else 'looked for, not decoded'}"
    ]
    if report.rehearsal:
        lines.append(SAID)
    lines += [f"{one.what}: {_compare(one)}" for one in report.published]
    lines += [f"left out by rule: {count} {rule}" for rule, count in report.left_out.items()]
    named = {name: number for name, number in report.splits.items() if name != "(none)"}
    if named:
        lines.append("splits: " + ", ".join(f"{name} {number}" for name, number in named.items()))
    lines += format_parts(report.by_part, most)
    lines += format_rates(report.all, report.by_part.parts)
    lines.append("")
    for what, findings in (
        ("not used", report.problems),
        ("missing", report.missing),
        ("damaged", report.damaged),
        ("twice", report.same_pictures),
    ):
        lines += [f"{what}: {one.place}: {one.what}" for one in findings[:most]]
        if len(findings) > most:
            lines.append(f"... {len(findings)} {what} in all (--json lists them)")
    lines.append(_verdict(report))
    return "\n".join(lines)


def _compare(count: Count) -> str:
    difference = count.found - count.published
    if difference == 0:
        return f"{count.found}, as published"
    word = "more" if difference > 0 else "fewer"
    return f"{count.found}, {abs(difference)} {word} than the published {count.published}"


def _verdict(report: CorpusReport) -> str:
    if report.sound:
        hint = "missing or damaged" if report.decoded else "missing (--decode reads every picture)"
        return f"sound: nothing {hint}"
    counts = {
        "missing": len(report.missing),
        "damaged": len(report.damaged),
        "not used": len(report.problems),
    }
    words = [f"{number} {name}" for name, number in counts.items() if number]
    words += [f"{one.missing} {one.what} fewer" for one in report.published if one.missing]
    return "not sound: " + ", ".join(words)

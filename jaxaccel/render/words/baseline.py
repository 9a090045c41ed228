"""A comparison with a baseline in words, as CSV and as JSON: what every format says alike."""

from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from jaxaccel.analyze.baseline import BaselineComparison, Change, Unmatched
from jaxaccel.analyze.differences import Aspect, Difference
from jaxaccel.records import Trend
from jaxaccel.render.files import case_columns, csv_text, json_text


def percent(share: float) -> str:
    """A share in percent, without needless digits: 5%, 2.5%."""
    return f"{100 * share:.4g}%"


def summary(comparison: BaselineComparison) -> str:
    """One line that counts the verdicts: 2 worse beyond 5%, 1 better, 9 same, 3 undecided."""
    limit = percent(comparison.fail_over)
    judged = [change.judged for change in comparison.changes]
    beyond = sum(found.beyond for found in judged)
    within = sum(found.verdict is Trend.worse for found in judged) - beyond
    words = [f"{beyond} worse beyond {limit}", *([f"{within} worse within {limit}"] if within else [])]
    others = (Trend.better, Trend.same, Trend.undecided)
    words += [f"{sum(found.verdict is trend for found in judged)} {trend}" for trend in others]
    return ", ".join(words)


def labels(found: Sequence[Difference]) -> list[str]:
    """A line for each aspect in which the sides differ, BASE → NEW: other machine: cpu.cores 8 → 16."""
    return [
        f"other {aspect}: " + ", ".join(f"{d.name} {d.base} → {d.new}" for d in found if d.aspect is aspect)
        for aspect in Aspect
        if any(d.aspect is aspect for d in found)
    ]


def unmatched_lines(unmatched: Iterable[Unmatched]) -> list[str]:
    """A line for each reason, with all that it kept from being compared."""
    reasons: dict[str, list[str]] = {}
    for entry in unmatched:
        metric = f", {entry.metric}" if entry.metric else ""
        reasons.setdefault(entry.reason, []).append(f"{entry.case} on the {entry.device}{metric}")
    return [f"not compared, {reason}: {'; '.join(arms)}" for reason, arms in reasons.items()]


def undecided_lines(comparison: BaselineComparison) -> list[str]:
    """A line for each reason why ratios are undecided, with their number."""
    reasons = [change.judged.reason for change in comparison.changes if change.judged.reason]
    return [f"{reasons.count(reason)} undecided: {reason}" for reason in dict.fromkeys(reasons)]


def as_csv(comparison: BaselineComparison) -> str:
    """A ratio a row, then a row each for what was not compared, with the reason in place of numbers."""
    rows = [_change_row(change) for change in comparison.changes]
    rows += [
        {**case_columns(entry.case), "device": entry.device, "metric": entry.metric, "reason": entry.reason}
        for entry in comparison.unmatched
    ]
    return csv_text(rows)


def as_json(comparison: BaselineComparison) -> str:
    """The whole comparison as one JSON object, with its summary and whether anything failed."""
    document = {
        "failed": comparison.failed,
        "summary": summary(comparison),
        **msgspec.to_builtins(comparison),
    }
    return json_text(document)


def _change_row(change: Change) -> dict[str, Any]:
    judged = change.judged
    ci95, family = judged.ci95 or (None, None), judged.ci_family or (None, None)
    return {
        **case_columns(change.case),
        "base_precision": change.base_case.precision,
        "device": change.device,
        "metric": change.metric,
        "base_s": change.base_s,
        "new_s": change.new_s,
        "base_passes": change.base_passes,
        "new_passes": change.new_passes,
        "ratio": judged.ratio,
        "ratio_ci95_low": ci95[0],
        "ratio_ci95_high": ci95[1],
        "ratio_ci_family_low": family[0],
        "ratio_ci_family_high": family[1],
        "verdict": judged.verdict,
        "beyond_limit": judged.beyond,
        "reason": judged.reason,
        "differs": " ".join(change.differs),
        "flags": "; ".join(change.doubts),
    }

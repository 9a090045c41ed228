"""The comparison run of a sweep: its pairs as a table, where the winner changes, and figures."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from jaxaccel.analyze.crossover import Point, conclude
from jaxaccel.analyze.questions import EVERY_CALL, QUESTIONS, family_size, point
from jaxaccel.records import Comparison, Metric, Record, Verdict, digest
from jaxaccel.render import rows
from jaxaccel.wandb.curve_runs import FEWEST
from jaxaccel.wandb.point_run import machine_name
from jaxaccel.wandb.runs import Run, row_of, table_of

COMPARISON = "comparison"
PAIRS, CROSSOVERS = "pairs", "crossovers"
ASKED = (*QUESTIONS[: QUESTIONS.index(EVERY_CALL)], EVERY_CALL)

_CASE = ("workload", "size", "dtype", "precision", "variant", "params", "seed")
_SPEEDUP = tuple(
    f"{metric}_{column}"
    for metric in (Metric.latency, Metric.throughput, Metric.device, Metric.end_to_end)
    for column in ("speedup", "speedup_ci95_low", "speedup_ci95_high", "verdict")
)
_SIDES = tuple(
    f"{device}_{column}"
    for column in (
        "machine",
        "kind",
        "variant",
        "latency_median_s",
        "device_median_s",
        "of_memory_ceiling",
        "of_compute_ceiling",
        "limit",
        "relative_error",
        "flags",
    )
    for device in ("cpu", "gpu")
)
PAIR_COLUMNS = (*_CASE, *_SPEEDUP, "break_even_calls", "unmatched", "different", "interleaved", *_SIDES)
CROSSOVER_COLUMNS = (
    "workload",
    "dtype",
    "precision",
    "variant",
    "params",
    "cpu_machine",
    "gpu_machine",
    "question",
    "searched_low",
    "searched_high",
    "sizes",
    "sure",
    "throughout",
    "below",
    "bracket_low",
    "above",
    "bracket_high",
)


def comparison_run(
    sweep_id: str,
    comparisons: Sequence[Comparison],
    figures: Callable[[Sequence[Record]], Mapping[str, str]],
) -> Run | None:
    """The run of a sweep's pairs; None where it has no pair that was measured on both sides.

    figures: draws records; Plotly figures as JSON, by name.
    """
    pairs = [comparison for comparison in comparisons if comparison.speedups]
    if not pairs:
        return None
    verdicts = Counter(
        speedup.verdict for pair in pairs if (speedup := pair.speedups.get(Metric.latency)) is not None
    )
    found = crossover_rows(pairs)
    tables = {PAIRS: table_of(map(_pair_row, pairs), PAIR_COLUMNS)}
    if found:
        tables[CROSSOVERS] = table_of(found, CROSSOVER_COLUMNS)
    arms = [arm for pair in pairs for arm in pair.arms]
    return Run(
        id=f"{COMPARISON}-{digest([sweep_id])}",
        name=f"{COMPARISON}-{sweep_id}",
        group=sweep_id,
        job_type=COMPARISON,
        tags=tuple(dict.fromkeys(pair.case.workload for pair in pairs)),
        config={
            "sweep_id": sweep_id,
            "jaxaccel_version": arms[-1].jaxaccel_version,
            "machine": " / ".join(dict.fromkeys(filter(None, map(machine_name, arms)))),
            "cpu_kind": ", ".join(dict.fromkeys(arm.arm.kind or "" for pair in pairs if (arm := pair.cpu))),
            "gpu_kind": ", ".join(dict.fromkeys(arm.arm.kind or "" for pair in pairs if (arm := pair.gpu))),
        },
        summary={"pairs/count": len(pairs)} | {f"pairs/{verdict}": verdicts[verdict] for verdict in Verdict},
        tables=tables,
        figures=figures(arms),
    )


def crossover_rows(pairs: Sequence[Comparison]) -> list[dict[str, Any]]:
    """Where the winner changes, by case (but for its size), machines and question: a row a bracket.

    And one where there is none. It takes two sizes at least; the rules are those of jaxaccel.crossover.
    """
    families: dict[tuple[Any, ...], list[Comparison]] = {}
    for pair in pairs:
        key = (pair.case.family, pair.case.seed, pair.cpu_machine, pair.gpu_machine)
        families.setdefault(key, []).append(pair)
    rows = []
    for family in families.values():
        if len({pair.case.size for pair in family}) < FEWEST:
            continue
        known = [(pair.cpu, pair.gpu) for pair in family if pair.cpu and pair.gpu]
        for question in ASKED:
            among = family_size(known, question)
            points: list[Point] = []
            for cpu, gpu in known:
                found = point(question, cpu.case.size, cpu, gpu, among=among)
                points += [found] if found else []
            if len(points) >= FEWEST:
                rows += _answer_rows(family[0], question, points)
    return rows


def _answer_rows(pair: Comparison, question: str, points: Sequence[Point]) -> list[dict[str, Any]]:
    answer = conclude(question, points)
    shared = row_of(rows.row(pair)) | {
        "cpu_machine": pair.cpu and machine_name(pair.cpu),
        "gpu_machine": pair.gpu and machine_name(pair.gpu),
        "question": question,
        "searched_low": answer.low,
        "searched_high": answer.high,
        "sizes": answer.sizes,
        "sure": answer.sure,
        "throughout": None if answer.brackets else str(answer.throughout),
    }
    return [
        shared
        | {
            "below": bracket and str(bracket.below),
            "bracket_low": bracket and bracket.low,
            "above": bracket and str(bracket.above),
            "bracket_high": bracket and bracket.high,
        }
        for bracket in answer.brackets or [None]
    ]


def _pair_row(pair: Comparison) -> dict[str, Any]:
    row = row_of(rows.row(pair))
    calls = row.get("break_even_calls")
    return row | {
        "cpu_machine": pair.cpu and machine_name(pair.cpu),
        "gpu_machine": pair.gpu and machine_name(pair.gpu),
        # A column of a W&B table has one type.
        "break_even_calls": None if calls is None else str(calls),
    }

"""What ran, in words: the variants that were chosen, the steps of a call, the flags that XLA was given."""

from collections.abc import Callable, Iterable, Mapping, Sequence

from jaxaccel.records import BEST, RESIDENT, Comparison, Metric, Record
from jaxaccel.render.words.names import told_apart
from jaxaccel.render.words.numbers import seconds


def choice(record: Record) -> str | None:
    """The variant that was chosen, what those took that it was chosen from, and why others were not."""
    if record.case.variant != BEST or record.arm.variant is None:
        return None
    timed = {name: trial.time_s for name, trial in record.variants.items() if trial.ok}
    taken = ", ".join(f"{name} {seconds(time_s)}" for name, time_s in timed.items())
    left = [f"not {name}: {trial.reason}" for name, trial in record.variants.items() if not trial.ok]
    return "\n".join([f"{record.arm.variant}, the best of {len(record.variants)}", taken, *left])


def a_step(record: Record, metrics: Iterable[Metric] = RESIDENT) -> str | None:
    """What one step takes, where a call makes several."""
    steps = record.cost.steps if record.cost else 1
    timed = [(metric, record.timings[metric]) for metric in metrics if metric in record.timings]
    if steps == 1 or not timed:
        return None
    return ", ".join(f"{seconds(timing.median_s / steps)} {metric}" for metric, timing in timed)


def xla_flags(record: Record) -> str | None:
    """The flags that XLA was given; it has many others, which are as they come."""
    return record.arm.flags.get("XLA_FLAGS")


def legend(rows: Sequence[Comparison]) -> list[str]:
    """Of a table of comparisons, all that its names do not tell of what ran; a line each."""
    cases = [row.case for row in rows]
    names = [told_apart(row.case, cases) for row in rows]
    lines = _grouped(
        "best against best",
        {
            name: _by_device(row, lambda record: record.arm.variant)
            for name, row in zip(names, rows, strict=True)
            if row.case.variant == BEST
        },
    )
    for name, row in zip(names, rows, strict=True):
        for metric in (Metric.latency, Metric.throughput, Metric.device):
            if words := _by_device(row, lambda record, metric=metric: a_step(record, [metric])):  # type: ignore[misc]
                steps = max(record.cost.steps for record in row.arms if record.cost)
                lines.append(f"a step of {name}, which makes {steps} a call: {words}")
                break
    given = {(record.arm.requested, xla_flags(record)) for row in rows for record in row.arms}
    lines += [f"XLA flags of the {device}: {flags}" for device, flags in sorted(given, key=str) if flags]
    return lines


def _by_device(row: Comparison, told: Callable[[Record], str | None]) -> str:
    words = [(record.arm.requested.upper(), told(record)) for record in row.arms if record.ok]
    return ", ".join(f"{device} {found}" for device, found in words if found)


def _grouped(what: str, found: Mapping[str, str]) -> list[str]:
    """A line for all names of which the same is said."""
    said: dict[str, list[str]] = {}
    for name, words in found.items():
        said.setdefault(words or "nothing measured", []).append(name)
    return [f"{what}: {words} ({', '.join(names)})" for words, names in said.items()]

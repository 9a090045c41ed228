"""Which W&B runs records make: a point an arm, curves and speedups by size, a comparison a sweep; pure."""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from jaxaccel.analyze.compare import compare, pair
from jaxaccel.analyze.findings import families
from jaxaccel.analyze.machines import meetings
from jaxaccel.records import Comparison, Record, digest, escape
from jaxaccel.records.redact import all_without_secrets
from jaxaccel.render.figures import draw
from jaxaccel.wandb.comparison import comparison_run
from jaxaccel.wandb.curve_runs import curves, lines, speedups
from jaxaccel.wandb.point_run import point
from jaxaccel.wandb.runs import Run, clean

NAME_BYTES = 180  # of a file or folder, to which W&B adds 40; most systems have 255
Draw = Callable[[Sequence[Record]], Mapping[str, str]]


def drawn(records: Sequence[Record]) -> dict[str, str]:
    """The figures of records by name, as Plotly's JSON."""
    found = draw(records, families(pair(records)))
    # Before JSON escapes what would be looked for.
    texts = escape.everywhere(all_without_secrets([[drawing.data, drawing.layout] for drawing in found]))
    return {
        _file_name(drawing.name): json.dumps({"data": data, "layout": layout})
        for drawing, (data, layout) in zip(found, texts, strict=True)
    }


def _file_name(name: str) -> str:
    """The name of a figure, of which W&B makes folders and a file: none of them is too long, or leads out."""
    parts = name.split("/")
    if max(len(part.encode()) for part in parts) <= NAME_BYTES and not {"", ".", ".."} & {*parts}:
        return name
    return f"{parts[0]}/{escape.file_name(parts[1:])}-{digest(name)}"


def runs_of(records: Iterable[Record], *, sweep_id: str | None = None, figures: Draw = drawn) -> list[Run]:
    """The runs of records, a sweep's together, points first; of one sweep only, where `sweep_id` says so.

    A pair whose arms are of two sweeps is of the later one. `figures` draws a sweep's records, for its
    comparison run. The same records give the same ids. No text holds a secret.
    """
    records = list(records)
    paired = comparisons_by_sweep(records)
    found = []
    for sweep in dict.fromkeys(record.sweep_id for record in records):
        if sweep_id not in (None, sweep):
            continue
        ours = [record for record in records if record.sweep_id == sweep]
        named = lines(ours)
        runs = [point(record, named[at]) for at, record in enumerate(ours)]
        runs += curves(ours)
        runs += speedups(sweep, paired.get(sweep, []))
        compared = comparison_run(sweep, paired.get(sweep, []), figures)
        found += [*runs, compared] if compared else runs
    once = {run.id: run for run in found}  # a resumed command's earlier state of a record is the same run
    return [clean(run) for run in once.values()]


def comparisons_by_sweep(records: Sequence[Record]) -> dict[str, list[Comparison]]:
    """The measured pairs of each sweep, by its records alone; then those whose arms are of two sweeps.

    What a sweep's comparisons say is the same whichever other sweeps lie beside it, as long as they add
    no pair to it: verdicts allow for the number of pairs here.
    """
    by_sweep: dict[str, list[Record]] = {}
    for record in records:
        by_sweep.setdefault(record.sweep_id, []).append(record)
    met = {sweep: [*_measured(ours)] for sweep, ours in by_sweep.items()}
    for meeting in _measured(records) if len(by_sweep) > 1 else []:
        first, last = sorted((meeting.cpu, meeting.gpu), key=lambda record: record.started_at)
        if first.sweep_id != last.sweep_id:
            met[last.sweep_id].append(meeting)
    return {
        sweep: [
            replace(
                compare(found.cpu, found.gpu, among=len(ours)),
                cpu_machine=found.cpu_machine,
                gpu_machine=found.gpu_machine,
            )
            for found in ours
        ]
        for sweep, ours in met.items()
    }


@dataclass(frozen=True, kw_only=True)
class _Pair:
    """Two records that meet and have a metric in common."""

    cpu: Record
    gpu: Record
    cpu_machine: str | None
    gpu_machine: str | None


def _measured(records: Iterable[Record]) -> Iterator[_Pair]:
    for met in meetings(records):
        cpu, gpu = met.cpu, met.gpu
        if cpu and gpu and cpu.ok and gpu.ok and cpu.timings.keys() & gpu.timings.keys():
            yield _Pair(cpu=cpu, gpu=gpu, cpu_machine=met.cpu_machine, gpu_machine=met.gpu_machine)

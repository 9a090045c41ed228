"""JAX beside its peers: a table in the terminal, and as Markdown."""

from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import groupby

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from jaxaccel.analyze.peers import FAR_BEHIND, Beside, Standing
from jaxaccel.analyze.stats import SEVERE_FLAGS
from jaxaccel.records import Record
from jaxaccel.render.terminal.comparisons import ONE_PROCESS, interval_legend
from jaxaccel.render.terminal.markdown import as_list, as_table, escaped
from jaxaccel.render.words.names import device_name, told_apart
from jaxaccel.render.words.numbers import brief, seconds

HEAD = ("case", "metric", "JAX", "peer", "its time", "ratio [95%]", "JAX is")
LEFT = ("case", "metric", "peer", "JAX is")
FAR, FLOOR = "!", "*"  # marks of a verdict, and of a time
STYLES = {
    Standing.ahead: "green",
    Standing.behind: "yellow",
    Standing.equal: "white",
    Standing.undecided: "dim",
}


def show_peers(console: Console, found: Sequence[Beside]) -> None:
    """A table a machine and device, and what its columns mean."""
    marked = len(_scopes(found)) > 1
    for title, rows in _parts(found):
        console.print()
        for line in title:
            console.print(line, markup=False, soft_wrap=True)
        table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
        for name in HEAD:
            table.add_column(
                Text(name),
                justify="left" if name in LEFT else "right",
                no_wrap=name != "case",
                overflow="fold" if name == "case" else "ellipsis",
            )
        before = None
        for one in rows:
            if before and before.case != one.case:
                table.add_section()
            style = "red" if one.far_behind else STYLES[one.standing]
            name, *cells, standing = cells_of(one, rows, marked=marked)
            shown = "" if before and before.case == one.case else name
            table.add_row(*(Text(cell) for cell in (shown, *cells)), Text(standing, style=style))
            before = one
        console.print(table)
    for line in legend(found):
        console.print(line, style="dim", markup=False, soft_wrap=True)


def peers_markdown(found: Sequence[Beside]) -> str:
    """The same as Markdown."""
    parts, marked = [], len(_scopes(found)) > 1
    for title, rows in _parts(found):
        cells = [cells_of(one, rows, marked=marked) for one in rows]
        parts += [as_list([escaped(line) for line in title]), as_table(HEAD, cells, LEFT)]
    return "\n\n".join([*parts, as_list([escaped(line) for line in legend(found)])]) + "\n"


def cells_of(one: Beside, rows: Sequence[Beside], *, marked: bool) -> list[str]:
    """One row, as HEAD has its columns; where `marked`, with what tells an interval of one process."""
    judged = one.judged
    within = "" if judged.ci95 is None else f" [{brief(judged.ci95[0])}, {brief(judged.ci95[1])}]"
    if within and marked and judged.ci_over == "rounds":
        within += ONE_PROCESS
    ours, theirs = (FLOOR if on_floor else "" for on_floor in one.on_floor)
    name = told_apart(one.case, [row.case for row in rows])
    if one.ours.arm.variant not in (None, one.case.variant):  # of `best`, the one that was chosen
        name += f" ({one.ours.arm.variant})"
    return [
        name + (f", a step of {one.steps}" if one.steps > 1 else ""),
        str(one.metric),
        seconds(one.ours_s) + ours,
        one.framework,
        seconds(one.peer_s) + theirs,
        f"{brief(judged.ratio)}{within}",
        str(one.standing) + (FAR if one.far_behind else ""),
    ]


def legend(found: Sequence[Beside]) -> list[str]:
    """What the columns mean; of what is not there, nothing."""
    if not found:
        return []
    among = max(one.judged.among for one in found)
    lines = [
        "ratio: the peer's time / JAX's time, above 1 JAX is faster; equal: within 2%",
        f"verdicts allow for the cases that a metric has: {among} at most",
    ]
    if any(True in one.on_floor for one in found):
        lines.append(f"{FLOOR} little longer than an empty call of the same framework: dispatch, not work")
    if any(one.far_behind for one in found):
        lines.append(f"{FAR} JAX takes more than {FAR_BEHIND} times as long")
    if apart := [one for one in found if not one.interleaved]:
        lines.append(f"{len(apart)} of the ratios are of records whose rounds did not take turns")
    if scopes := _scopes(found):
        lines += interval_legend(scopes).splitlines()
    if any(one.judged.ci95 is None for one in found):
        lines.append("no interval: one takes three passes, or one pass of six samples")
    records = {record.arm_id: record for one in found for record in (one.ours, one.peer)}.values()
    doubts = Counter(name for record in records for name in {flag.name for flag in record.warnings})
    if severe := [f"{name} ({doubts[name]})" for name in SEVERE_FLAGS if doubts[name]]:
        lines.append(f"look twice, of {len(records)} records: {', '.join(severe)} (see `warnings`)")
    return lines


def failure_lines(records: Sequence[Record]) -> list[str]:
    """Every arm without a measurement, or without all its passes, and why."""
    lines = []
    for record in records:
        who = f"{record.arm.framework} on the {record.arm.requested}: {record.case}"
        if not record.ok and record.error:
            hint = f" ({record.error.hint})" if record.error.hint else ""
            lines.append(f"{record.status}: {who}: {record.error.message}{hint}")
        elif record.lacks_passes:
            lines.append(f"a pass failed: {who}: {record.lacks_passes}")
    return lines


def _scopes(found: Sequence[Beside]) -> set[str]:
    """What the intervals that are shown are over: passes, or rounds of one process."""
    return {one.judged.ci_over for one in found if one.judged.ci95}


def _parts(found: Sequence[Beside]) -> Iterator[tuple[list[str], list[Beside]]]:
    """Of each machine and device, its name with the frameworks' versions, and its rows."""
    several = len({one.machine for one in found}) > 1
    for (machine, _), group in groupby(found, key=lambda one: (one.machine, one.device)):
        rows = list(group)
        name = device_name(rows[0].ours)
        yield [f"{machine}: {name}" if several else name, _versions(rows)], rows


def _versions(rows: Sequence[Beside]) -> str:
    """Which versions of what, and on how many threads."""
    known = {"jax": f"jax {rows[0].ours.environment.get('packages', {}).get('jax', '?')}"}
    for one in rows:
        facts = one.peer.environment.get("framework", {})
        library = facts.get("library", one.framework)
        threads = facts.get("threads") if one.device == "cpu" else None
        counted = f", {threads} threads" if threads else ""
        blas = f", {facts['blas']}" if facts.get("blas") else ""
        known[library] = f"{library} {facts.get('version', '?')}{blas}{counted}"
    return "; ".join(known.values())

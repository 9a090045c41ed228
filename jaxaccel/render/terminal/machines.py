"""Several machines side by side: a column each, and a mark at what is not the same."""

from collections.abc import Sequence
from textwrap import wrap

from rich import box
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from jaxaccel.records import Comparison
from jaxaccel.render.terminal.comparisons import WIDTH
from jaxaccel.render.words.machines import facts, letters, versions

DIFFERS = "≠"

_NAMES = {"host_id": "host", "os": "OS", "python": "Python"}


def machine_lines(comparisons: Sequence[Comparison]) -> list[RenderableType]:
    """The table of machines, where there are several; and a line for versions that differ within a pair."""
    lines: list[RenderableType] = []
    if len(letters(comparisons)) > 1:
        lines += [_table(comparisons), Text(f"{DIFFERS}: not the same on all of them", style="dim")]
    for words in dict.fromkeys(map(versions, comparisons)):
        if words:
            told = wrap(f"! {words}: the speedup is of these versions too", WIDTH, subsequent_indent="  ")
            lines += [Text(line, style="yellow") for line in told]
    return lines


def _table(comparisons: Sequence[Comparison]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 0, 0, 1))
    table.add_column("machine")
    known = {letter: _known(comparisons, letter) for letter in letters(comparisons)}
    for letter in known:
        table.add_column(Text(letter), overflow="fold")
    table.add_column("")
    for name in next(iter(known.values())):
        values = [" or ".join(found[name]) for found in known.values()]
        told = {value for value in values if value}
        if not told:
            continue
        mark = Text(DIFFERS if len(told) > 1 else "", style="yellow")
        table.add_row(_NAMES.get(name, name), *(Text(value or "–") for value in values), mark)
    return table


def _known(comparisons: Sequence[Comparison], letter: str) -> dict[str, list[str]]:
    """What the records of a machine tell of it, by name: several values where they do not agree."""
    arms = [arm for c in comparisons for arm in ((c.cpu, c.cpu_machine), (c.gpu, c.gpu_machine))]
    found: dict[str, list[str]] = {}
    for record, its in arms:
        if record is None or its != letter:
            continue
        for name, value in facts(record).items():
            its_values = found.setdefault(name, [])
            if value is not None and str(value) not in its_values:
                its_values.append(str(value))
    return found

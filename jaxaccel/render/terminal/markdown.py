"""Records as Markdown, to be pasted in a pull request: the page's sentences, and the terminal's table."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from jaxaccel.analyze.compare import pair
from jaxaccel.analyze.findings import families
from jaxaccel.analyze.machines import standing
from jaxaccel.records import Comparison, Record, Verdict, escape
from jaxaccel.render.terminal import rates
from jaxaccel.render.terminal.comparisons import SweepTable
from jaxaccel.render.words import machines, money, numbers, training
from jaxaccel.render.words.findings import headlines
from jaxaccel.render.words.names import told_apart

if TYPE_CHECKING:
    from jaxaccel.analyze.money import Prices

_CHEAPER = {Verdict.gpu: "gpu", Verdict.cpu: "cpu", Verdict.equivalent: "equal", Verdict.undecided: "?"}


def markdown(
    records: Sequence[Record],
    comparisons: Sequence[Comparison] | None = None,
    prices: "Prices | None" = None,
    skipped: Sequence[str] = (),
) -> str:
    """The whole report as text. `comparisons` are those of the records, where they are known already."""
    comparisons = pair(records) if comparisons is None else comparisons
    table = SweepTable(comparisons)
    parts = [as_list([escaped(line) for line in table.devices])]
    notes = [f"skipped, as it can't be read: {line}" for line in skipped]
    notes += [f"{words}: the speedup is of these versions too" for words in _versions(comparisons)]
    if notes:
        parts.append(as_list([f"**Note**: {escaped(note)}" for note in notes]))
    parts.append(
        as_list(
            [
                " ".join(filter(None, (f"**{escaped(one.name)}**: {escaped(one.answer)}", escaped(one.sure))))
                for one in headlines(families(comparisons))
            ]
        )
    )
    for title, head, rows in table.plain:
        parts += [f"**{escaped(title)}**"] if title else []
        parts.append(as_table(head, rows))
    for section in (*training.sections(comparisons), *rates.sections(records)):
        parts += [f"**{escaped(section.title)}**", as_table(section.head, section.rows)]
        parts += [as_list([escaped(line) for line in section.lines])] if section.lines else []
    if prices:
        parts += [escaped(money.heading(prices)), _bills(comparisons, prices)]
    parts.append(
        "<details><summary>How to read it</summary>\n\n" + as_list(_joined(table.legend())) + "\n\n</details>"
    )
    failures = [
        f"{record.status} on the {record.arm.requested}: {record.case}: {record.error.message}"
        for record in (placed.record for placed in standing(records))
        if not record.ok and record.error
    ]
    parts += [as_list([escaped(line) for line in dict.fromkeys(failures)])] if failures else []
    return "\n\n".join(parts) + "\n"


escaped = escape.markdown  # words that are shown as they are, on one line


def as_list(lines: Sequence[str]) -> str:
    """Words that are Markdown already, an item a line."""
    return "\n".join(f"- {line}" for line in lines)


def as_table(head: Sequence[str], rows: Sequence[Sequence[str]], left: Sequence[str] = ()) -> str:
    """Words as they are, in columns; the first and those named `left` stand left, the others right."""
    marks = [":--", *(":--" if name in left else "--:" for name in head[1:])]
    lines = [[escaped(cell) for cell in line] for line in (head, *rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in (lines[0], marks, *lines[1:]))


def _joined(legend: Sequence[str]) -> list[str]:
    """Lines of the legend, each whole: in the terminal a long one goes on in the next, further in."""
    found: list[str] = []
    for line in "\n".join(legend).split("\n"):
        if line.startswith(" ") and found:
            found[-1] += f" {escaped(line)}"
        else:
            found.append(escaped(line))
    return found


def _versions(comparisons: Sequence[Comparison]) -> list[str]:
    return [words for words in dict.fromkeys(map(machines.versions, comparisons)) if words]


def _bills(comparisons: Sequence[Comparison], prices: "Prices") -> str:
    cases = [comparison.case for comparison in comparisons]
    several = len(machines.letters(comparisons)) > 1
    rows = []
    for comparison in comparisons:
        found = money.columns(comparison, prices)
        sides = [found[f"{device}_cost_per_million_calls"] for device in ("cpu", "gpu")]
        ratio, word = found["cost_ratio_cpu_over_gpu"], found["cheaper"]
        flip = found["flip_price_ratio_gpu_over_cpu"]
        name = told_apart(comparison.case, cases)
        rows.append(
            [
                f"{name} ({machines.title(comparison)})" if several else name,
                *("–" if side is None else numbers.amount(side) for side in sides),
                "–" if ratio is None else f"{_CHEAPER[Verdict(word)]} {numbers.ratio(max(ratio, 1 / ratio))}",
                "–" if flip is None else numbers.plain(flip),
            ]
        )
    head = ["case", "CPU: cost of 10⁶ calls", "GPU: cost of 10⁶ calls", "cheaper", "flips at GPU/CPU price"]
    return as_table(head, rows)

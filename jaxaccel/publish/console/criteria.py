"""The table of how often ways to choose a device are right: a row a way."""

from collections.abc import Sequence

from rich import box
from rich.table import Table

from jaxaccel.analyze.choosing import CLOSE, Held, Score, inner, rules, score

LEGEND = f"""\
right: its device takes at most {CLOSE - 1:.0%} longer than the other, by medians; none: no answer
lost: how many times as long as the faster device its answers take, as a geometric mean
of all: right, of all cases; the other columns are of those that have other sizes on either side
a case: a size, with its data on the device, from the host for each call, and once for 100 calls; or
queued calls with data on the device, where no others were measured"""


def criteria_table(held: Sequence[Held]) -> Table:
    """Who is right how often; `advise` has not seen what it is asked about."""
    shared = inner(held)
    table = Table(
        title=f"{len(shared)} cases held out, {len(held)} in all",
        title_justify="left",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        show_edge=False,
    )
    for name in ("way to choose", "rule"):
        table.add_column(name)
    for name in ("right", "wrong", "none", "lost", "of all"):
        table.add_column(name, justify="right", no_wrap=True)
    for rule in rules(held):
        found = score(shared, rule.choose)
        everywhere = "–" if rule.needs_others else str(score(held, rule.choose).right)
        table.add_row(rule.name, rule.words, *_cells(found), everywhere)
    return table


def _cells(found: Score) -> tuple[str, ...]:
    lost = "–" if found.lost is None else f"{found.lost:.2f}x"
    return str(found.right), str(found.wrong), str(found.no_answer), lost

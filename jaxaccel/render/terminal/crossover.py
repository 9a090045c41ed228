"""The table of a search for crossovers: a row a question, and a line in it a bracket."""

from collections.abc import Sequence

from rich import box
from rich.table import Table
from rich.text import Text

from jaxaccel.analyze.crossover import Answer
from jaxaccel.render.words.crossover import in_words

LEGEND = """\
latency, throughput, device: the data is resident; once K: it comes in once for K calls; every call: each time
up to, from: outside of these that device surely wins (95%): by a line through the sizes around, or as
the nearest sizes that are sure by themselves; between them nobody surely does"""


def crossover_table(title: str, answers: Sequence[Answer]) -> Table:
    """Who wins up to which size, and who from which size on."""
    table = Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, pad_edge=False)
    for name in ("question", "who surely wins", "bracket", "ties"):
        table.add_column(name, justify="right" if name in ("bracket", "ties") else "left")
    for answer in answers:
        widths = [f"{bracket.width:.1%}" for bracket in answer.brackets] or ["–"]
        ties = [str(len(bracket.ties)) for bracket in answer.brackets] or ["–"]
        table.add_row(answer.question.replace("_", " "), *map(_lines, (in_words(answer), widths, ties)))
    return table


def _lines(lines: Sequence[str]) -> Text:
    return Text("\n".join(lines))


def winners_table(rows: Sequence[tuple[str, Answer]]) -> Table:
    """Who wins which sizes: a row a case (but for its size) and question."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name in ("case", "sizes measured", "question", "who surely wins"):
        table.add_column(name)
    last = ""
    for title, answer in rows:
        sizes = f"{answer.low} to {answer.high}"
        shown, last = ("", "") if title == last else (title, sizes), title
        table.add_row(*shown, answer.question.replace("_", " "), _lines(in_words(answer)))
    return table

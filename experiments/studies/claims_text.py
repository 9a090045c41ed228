"""Claims and what became of them, as Markdown: a table, and an argument for each verdict."""

import re
from collections.abc import Mapping, Sequence

from jaxaccel.render.words.crossover import in_words
from jaxaccel.render.words.numbers import brief, joules, plain, rate, ratio, seconds, volume
from studies.claim import Claim, Judgement, Published, quantities_of
from studies.quantities import Quantity

NOT_YET = str(Judgement.pending)
BAR = re.compile(r"(?<!\\)\|")  # it would end a cell, unless it is escaped
PLACEHOLDER = re.compile(r"\{([^{}]+)\}")
NOTES = """\
x: CPU time / GPU time, above 1 the GPU is faster; in brackets 95% intervals, over passes: where a rerun would
land. Each stands by itself: of twenty, one misses. ?: it holds both sides of 1. ¹: within one process."""
PENDING_NOTE = "Not measured yet: that study has no records."


def markdown(claims: Sequence[Claim], published: Published) -> str:
    """The table, notes, and the arguments, numbered as the rows are.

    **Raises** ValueError for what the records do not tell, and for an argument by a number that is not there.
    """
    rows = ["| | section | the article's claim | verdict | figures | study |", "|---|---|---|---|---|---|"]
    arguments = []
    for index, claim in enumerate(claims, 1):
        texts = {name: in_text(found) for name, found in quantities_of(claim, published).items()}
        cells = [str(index), claim.section, claim.claim, _verdict(claim), _figures(claim, texts)]
        cells.append(", ".join(_link(name.strip(), published) for name in claim.study.split(",")))
        rows.append(f"| {' | '.join(BAR.sub('&#124;', cell) for cell in cells)} |")
        arguments.append(f"{index}. {argument(claim, texts)}")
    pending = [PENDING_NOTE] if any(NOT_YET in row for row in rows) else []
    return "\n".join([*rows, "", NOTES, *pending, "", *arguments])


def argument(claim: Claim, texts: Mapping[str, str | None]) -> str:
    """Why, with the figures that it names in it.

    **Raises** ValueError where it names one that there is not, or that has not been measured.
    """

    def text(found: re.Match[str]) -> str:
        known = texts.get(found[1])
        if known is None:
            raise ValueError(f"{claim.title}: `why` names {found[1]!r}, which is no figure that was measured")
        return known

    return PLACEHOLDER.sub(text, " ".join(claim.why.split()))


def in_text(found: Quantity | None) -> str | None:
    """A number in words, with its interval; None of one that was not measured."""
    if found is None:
        return None
    if found.answer:
        return "; ".join(in_words(found.answer))
    if found.value is None:
        return found.text or ""
    if found.out_of is not None:
        return f"{found.value:.0f} of {found.out_of}"
    if found.unit == "J" and found.interval:
        number, unit = joules(found.value).split()
        half = (found.interval[1] - found.interval[0]) / 2
        return f"{number} ± {half / found.value * float(number):.1g} {unit}"
    return _scaled(found.value, found.unit) + _doubt(found)


def _scaled(value: float, unit: str) -> str:
    if unit == "B":
        return volume(round(value))
    if unit.endswith("/s"):
        return rate(value, unit)
    known = {"x": ratio, "s": seconds, "J": joules, "share": lambda share: f"{share:.0%}", "": brief}
    return known[unit](value) if unit in known else f"{plain(value)} {unit}"


def _doubt(found: Quantity) -> str:
    if found.interval is None or found.unit not in ("x", "share", "times"):
        return ""
    low, high = (f"{end:.0%}" if found.unit == "share" else brief(end) for end in found.interval)
    return f" [{low}, {high}]" + ("¹" if found.within == "rounds" else "") + ("" if found.sure else "?")


def _verdict(claim: Claim) -> str:
    return f"{claim.verdict}: {claim.depends_on}" if claim.depends_on else str(claim.verdict)


def _figures(claim: Claim, texts: Mapping[str, str | None]) -> str:
    shown = [figure.name for figure in claim.figures if figure.shown]
    lines = [f"{name}: {texts[name]}" for name in shown if texts[name] is not None]
    if not lines:
        return NOT_YET
    later = [name for name in shown if texts[name] is None]
    return "<br>".join([*lines, *([f"{NOT_YET}: {'; '.join(later)}"] if later else [])])


def _link(study: str, published: Published) -> str:
    return f"[{study}]({study}/README.md)" if study in published.told else study

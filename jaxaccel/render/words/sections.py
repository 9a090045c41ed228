"""Tables in plain words that stand below a sweep's: made once, for the terminal and for Markdown alike."""

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Section:
    """A table: its title, its head, its rows, and what else is to be said."""

    title: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    lines: tuple[str, ...]


def as_text(sections: Iterable[Section]) -> str:
    """All of them for the terminal, an empty line before each; empty where there are none."""
    return "\n".join(line for section in sections for line in ("", *_aligned(section)))


def _aligned(section: Section) -> list[str]:
    table = (section.head, *section.rows)
    widths = [max(len(row[at]) for row in table) for at in range(len(section.head))]
    lines = [
        "  ".join(
            cell.rjust(width) if at else cell.ljust(width)
            for at, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in table
    ]
    return [section.title, *lines, *section.lines]

"""The terminal, in which text of records and of exceptions is shown and never obeyed."""

from collections.abc import Iterable
from typing import Any

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment

from jaxaccel.records import escape


class Screen(Console):
    """Rich's console, without markup: brackets are text, and so are escapes, wherever they come from.

    Only what Rich itself draws (colours, the cursor of a live display) moves or colours anything.
    """

    def __init__(self, **settings: Any) -> None:
        super().__init__(emoji=False, highlight=False, markup=False, **settings)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """The pieces of what is drawn, their text inert."""
        for piece in super().render(renderable, options):
            if piece.control or piece.text.isprintable() or piece.text == "\n":
                yield piece
            else:
                yield Segment(escape.terminal(piece.text), piece.style)

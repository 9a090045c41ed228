"""How far a session is, in the terminal: drawn between rounds only, when nothing is being timed."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn
from rich.segment import Segment
from rich.text import Text

from jaxaccel.analyze.compare import pair
from jaxaccel.process.saying import tell
from jaxaccel.records import Metric, Record
from jaxaccel.render.terminal.comparisons import SweepTable
from jaxaccel.render.terminal.screen import Screen
from jaxaccel.render.words.numbers import seconds

BELOW_LINES = 3  # under the table: how narrow it is, the bar, and the cursor once the display ends
SLOW_S = 0.5  # of a call: each step then takes so long that it is told when it begins


class ShowProgress:
    """Tells how far the session is: in a terminal a bar, under a table that each pass replaces; else lines.

    Rich's refresh thread stays off: drawing happens here, between rounds, when nothing is being timed.
    """

    def __init__(self, console: Console) -> None:
        # A dumb terminal can't draw over what it has drawn: it gets lines.
        self._redraws = console.is_terminal and console.is_interactive
        self._console = console if self._redraws else Screen(stderr=True)
        self._bar = Progress(
            SpinnerColumn(),
            BarColumn(bar_width=20),
            MofNCompleteColumn(),
            TextColumn("{task.description}", markup=False),
            console=self._console,
            auto_refresh=False,
        )
        self._task = self._bar.add_task("starting", total=None)
        self._live = Live(self._bar, console=self._console, auto_refresh=False, transient=True)
        self._case = ""
        self._calls_s: dict[str, float] = {}  # by device, of this case

    def __enter__(self) -> "ShowProgress":
        if self._redraws:
            self._live.start(refresh=True)
        return self

    def __exit__(self, *_: object) -> None:
        if self._redraws:
            self._live.stop()

    def doing(self, case: str, pass_index: int, done: int, total: int) -> None:
        """A case begins."""
        self._case, self._calls_s = f"pass {pass_index + 1}: {case}" if pass_index else case, {}
        if self._redraws:
            self._bar.update(self._task, completed=done, total=total, description=f"{self._case}: opening")
            self._live.refresh()
        elif pass_index == 0:
            tell(f"[{done + 1}/{total}] {case}")

    def opened(self, device: str, call_s: float) -> None:
        """An arm is ready, whose calls take about so long."""
        self._calls_s[device] = call_s
        if not self._redraws and call_s >= SLOW_S:
            self._say(f"  a call on the {device} takes about {seconds(call_s)}")

    def sampling(self, metric: Metric) -> None:
        """The rounds of a metric begin."""
        slow = [f"{name} {seconds(call_s)}" for name, call_s in self._calls_s.items() if call_s >= SLOW_S]
        self._begins(f"{metric} (a call takes about: {', '.join(slow)})" if slow else str(metric))

    def passed(self, pass_index: int, passes: int, records: Sequence[Record]) -> None:
        """A pass is over: how narrow the intervals are by now; in a terminal, of every case."""
        timings = [timing for record in records if (timing := record.timings.get(Metric.latency))]
        if passes == 1 or not any(record.timings for record in records):
            return
        widths = [(t.ci95_s[1] - t.ci95_s[0]) / 2 / t.median_s for t in timings if t.ci95_s]
        line = f"pass {pass_index + 1} of {passes}"
        if widths:
            line += f": latencies within ±{min(widths):.1%} to ±{max(widths):.1%}"
        if self._redraws:
            table = _Fitted(SweepTable(pair(records)))
            caption = Text(line, no_wrap=True, overflow="ellipsis")
            self._live.update(Group(table, caption, self._bar), refresh=True)
        elif widths:
            self._console.print(line, markup=False)

    def beside(self, what: str) -> None:
        """Something begins that takes a while, beside the rounds."""
        self._begins(what)

    def _begins(self, what: str) -> None:
        """Say what goes on: in a terminal always, else where it will take some time."""
        if self._redraws:
            self._bar.update(self._task, description=f"{self._case}: {what}")
            self._live.refresh()
        elif max(self._calls_s.values(), default=0.0) >= SLOW_S:
            self._say(f"  {what}")

    @staticmethod
    def _say(line: str) -> None:
        tell(line)

    def sampled(self, metric: Metric, found: Mapping[str, Any]) -> None:
        """A round is over."""
        if self._redraws:
            widths = "  ".join(
                f"{device} ±{got.width:.1%}" if got.width < 10 else f"{device} …"
                for device, got in found.items()
            )
            self._bar.update(self._task, description=f"{self._case}: {metric}  {widths}")
            self._live.refresh()


class _Fitted:
    """A renderable, cut where the terminal is too low for it: what has scrolled away can't be replaced.

    It is rendered once for a width, for it is drawn after every round, and a table of 50 cases takes 70 ms.
    """

    def __init__(self, whole: RenderableType) -> None:
        self._whole = whole
        self._width = 0
        self._lines: list[list[Segment]] = []

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        if self._width != options.max_width:
            self._width = options.max_width
            self._lines = console.render_lines(self._whole, options, pad=False)
        room = options.size.height - BELOW_LINES
        shown = self._lines if len(self._lines) <= room else self._lines[: max(0, room - 1)]
        for line in shown:
            yield from line
            yield Segment.line()
        if len(shown) < len(self._lines) and room > 0:
            yield Text(f"… {len(self._lines) - len(shown)} more lines", style="dim")

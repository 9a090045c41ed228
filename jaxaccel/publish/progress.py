"""How far a session is, in the terminal: drawn between rounds only, when nothing is being timed."""

import sys
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn

from jaxaccel.records import Metric, Record


class ShowProgress:
    """Tells how far the session is: a bar in a terminal, a line a case elsewhere.

    Rich's refresh thread stays off: drawing happens here, between rounds, when nothing is being timed.
    """

    def __init__(self, console: Console) -> None:
        self._live = console.is_terminal
        self._console = Console(stderr=True, highlight=False, emoji=False) if not self._live else console
        self._bar = Progress(
            SpinnerColumn(),
            BarColumn(bar_width=20),
            MofNCompleteColumn(),
            TextColumn("{task.description}", markup=False),
            console=self._console,
            auto_refresh=False,
            transient=True,
        )
        self._task = self._bar.add_task("starting", total=None)
        self._case = ""

    def __enter__(self) -> "ShowProgress":
        if self._live:
            self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live:
            self._bar.stop()

    def doing(self, case: str, pass_index: int, done: int, total: int) -> None:
        """A case begins."""
        self._case = f"pass {pass_index + 1}: {case}" if pass_index else case
        if self._live:
            self._bar.update(self._task, completed=done, total=total, description=f"{self._case}: opening")
            self._bar.refresh()
        elif pass_index == 0:
            print(f"[{done + 1}/{total}] {case}", file=sys.stderr, flush=True)

    def passed(self, pass_index: int, passes: int, records: Sequence[Record]) -> None:
        """A pass is over: how narrow the intervals are by now."""
        timings = [timing for record in records for timing in record.timings.values()]
        widths = [(t.ci95_s[1] - t.ci95_s[0]) / 2 / t.median_s for t in timings if t.ci95_s]
        if passes > 1 and widths:
            line = f"pass {pass_index + 1} of {passes}: intervals of ±{min(widths):.1%} to ±{max(widths):.1%}"
            self._console.print(line, markup=False)

    def sampled(self, metric: Metric, found: Mapping[str, Any]) -> None:
        """A round is over."""
        if self._live:
            widths = "  ".join(
                f"{device} ±{got.width:.1%}" if got.width < 10 else f"{device} …"
                for device, got in found.items()
            )
            self._bar.update(self._task, description=f"{self._case}: {metric}  {widths}")
            self._bar.refresh()

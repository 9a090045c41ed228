"""What all pictures share: colours, shapes, ticks and the plain data of a figure.

CPU and GPU have a colour and a shape each, here and nowhere else. Colours are of the palette of Okabe and Ito
(Color Universal Design, 2008), which people with any colour vision tell apart; those of the devices have a
contrast of 3 or more with white and with the page's dark.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from jaxaccel.analyze.machines import Placed
from jaxaccel.records import Case, Timing, escape
from jaxaccel.render.words import numbers
from jaxaccel.render.words.names import workload_name

COLOURS = {"cpu": "#0072b2", "gpu": "#d55e00"}
SYMBOLS = {"cpu": "circle", "gpu": "square"}
GREEN, ORANGE, SKY, PURPLE, GREY = "#009e73", "#e69f00", "#56b4e9", "#cc79a7", "#808080"
DASHES = ("solid", "dash", "dot", "dashdot", "longdash", "longdashdot")
FONT = "system-ui, -apple-system, 'Segoe UI', 'DejaVu Sans', sans-serif"
_TICKS = 6
_NARROW = 0.25  # decades
_PLAIN_SIZES = 1e5  # from here on, sizes are powers of two on an axis: 2²³ rather than 8388608

Trace = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Drawing:
    """A figure as plain data. kind: latency, speedup, ...; name: the kind and what it shows.

    note: what one has to know to read it, in a sentence or two.
    """

    kind: str
    name: str
    title: str
    workload: str | None
    data: list[Trace]
    layout: dict[str, Any]
    note: str = ""


# --- what is drawn ---------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Line:
    """The measured arms of cases that differ only in size, smallest first, on one device of one machine."""

    device: str
    machine: str | None
    arms: tuple[Placed, ...]

    @property
    def case(self) -> Case:
        """Its smallest case."""
        return self.arms[0].record.case


def lines_of(placed: Sequence[Placed]) -> dict[str, list[Line]]:
    """The lines of each workload, CPUs first within a kind of case."""
    several = len({arm.machine for arm in placed}) > 1
    found: dict[str, dict[tuple[str, str, str], list[Placed]]] = {}
    for arm in placed:
        if arm.record.ok:
            case = arm.record.case
            key = (kin(case), arm.record.arm.requested, arm.machine)
            found.setdefault(workload_name(case), {}).setdefault(key, []).append(arm)
    return {
        workload: [
            Line(
                device=device,
                machine=machine if several else None,
                arms=tuple(sorted(arms, key=lambda arm: arm.record.case.size)),
            )
            for (_, device, machine), arms in sorted(by_key.items(), key=lambda item: item[0][1:])
        ]
        for workload, by_key in found.items()
    }


def kin(case: Case) -> str:
    """What cases that differ only in size have in common."""
    return f"{case.family} seed={case.seed}"


def kinds_of(cases: Iterable[Case]) -> dict[str, str]:
    """What tells the kinds of cases of one workload apart, in words, by `kin`: '' where there is one.

    In order of appearance.
    """
    first: dict[str, Case] = {}
    for case in cases:
        first.setdefault(kin(case), case)
    facts = {key: _facts(case) for key, case in first.items()}
    names = dict.fromkeys(name for found in facts.values() for name in found)
    told = [name for name in names if len({str(found.get(name)) for found in facts.values()}) > 1]
    return {key: " ".join(_fact(name, found.get(name)) for name in told) for key, found in facts.items()}


def _facts(case: Case) -> dict[str, Any]:
    own = {"variant": case.variant, "dtype": case.dtype, "precision": case.precision}
    return own | dict(case.params) | {"seed": case.seed}


def _fact(name: str, value: Any) -> str:
    return str(value) if name in ("variant", "dtype", "precision") else f"{name}={value}"


def device_label(line: Line, words: str) -> str:
    """CPU, or GPU (B) float64 highest: what a line is called in a legend."""
    machine = f" ({line.machine})" if line.machine else ""
    return text(f"{line.device.upper()}{machine}{' ' if words else ''}{words}")


def meta_of(case: Case, role: str = "data") -> dict[str, str]:
    """What a trace is of, for those who filter. role: `data`, or what only belongs to it.

    A trace may add `short`: what it is called where that tells all that is shown apart.
    """
    return {
        "workload": workload_name(case),
        "dtype": case.dtype,
        "precision": case.precision,
        "role": role,
    }


# --- numbers and words -----------------------------------------------------------------------------


def text(words: str) -> str:
    """Words of a record in a figure, where Plotly would take < for a tag, and %{ for a template."""
    return escape.plotly(words)


def rounded(value: float | None, digits: int = 5) -> float | None:
    """A number as it is drawn: nobody sees the sixth digit, and it takes a page's room."""
    return None if value is None else float(f"{value:.{digits}g}")


def time_words(timing: Timing) -> str:
    """The median with its interval: 535 µs [500 µs, 571 µs]."""
    words = numbers.seconds(timing.median_s)
    if timing.ci95_s:
        words += f" [{numbers.seconds(timing.ci95_s[0])}, {numbers.seconds(timing.ci95_s[1])}]"
    return words


def error_bars(values: Sequence[float], intervals: Sequence[tuple[float, float] | None]) -> dict[str, Any]:
    """Intervals as Plotly's error bars: none where there is no interval."""
    ends = [interval or (value, value) for value, interval in zip(values, intervals, strict=True)]
    return {
        "type": "data",
        "symmetric": False,
        "array": [rounded(high - value, 3) for value, (_, high) in zip(values, ends, strict=True)],
        "arrayminus": [rounded(value - low, 3) for value, (low, _) in zip(values, ends, strict=True)],
        "thickness": 1.2,
        "width": 3,
    }


# --- axes ------------------------------------------------------------------------------------------


def size_axis(sizes: Iterable[int]) -> dict[str, Any]:
    """A logarithmic axis of sizes, whose ticks are powers of two; of a narrow range, the sizes themselves."""
    known = sorted(set(sizes))
    low, high = math.log2(known[0]), math.log2(known[-1])
    if high - low < 2:
        ticks = known if len(known) <= _TICKS else [known[0], known[-1]]
        words = [str(size) for size in ticks]
    else:
        step = max(1, math.ceil((math.floor(high) - math.ceil(low)) / (_TICKS - 1)))
        ticks = [2**power for power in range(math.ceil(low), math.floor(high) + 1, step)]
        powers = [size.bit_length() - 1 for size in ticks]
        large = known[-1] >= _PLAIN_SIZES
        words = [f"2<sup>{power}</sup>" if large else str(2**power) for power in powers]
    pad = max(0.06 * (high - low), 0.3) * math.log10(2)
    return {
        **_LOG_AXIS,
        "title": {"text": "size n", "standoff": 8},
        "tickvals": ticks,
        "ticktext": words,
        "tickangle": 0,
        "range": [rounded(low * math.log10(2) - pad), rounded(high * math.log10(2) + pad)],
    }


def log_axis(values: Iterable[float], title: str, words: Callable[[float], str]) -> dict[str, Any]:
    """A logarithmic axis with a tick a decade, in `words`; of a narrow range, at 1, 2 and 5."""
    known = [value for value in values if value > 0]
    low, high = math.log10(min(known)), math.log10(max(known))
    powers = range(math.floor(low) - 1, math.ceil(high) + 2)
    wide = high - low
    leads: tuple[float, ...] = (1.0,) if wide > 1.3 else (1.0, 2.0, 5.0)
    if wide < _NARROW:
        leads = (1.0, 1.2, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0)
    step = max(1, math.ceil(wide / _TICKS))
    ticks = [lead * 10.0**power for power in powers if power % step == 0 for lead in leads]
    # Of nearly equal values, the axis would otherwise show a part that has no tick.
    middle, half = (low + high) / 2, max(0.15, 0.55 * wide)
    narrow = {"range": [rounded(middle - half), rounded(middle + half)]} if wide < _NARROW else {}
    return {
        **_LOG_AXIS,
        **narrow,
        "title": {"text": title, "standoff": 10},
        "tickvals": [rounded(tick) for tick in ticks],
        "ticktext": [words(tick) for tick in ticks],
        "tickangle": 0,
    }


_LOG_AXIS = {"type": "log", "automargin": True, "zeroline": False, "showgrid": True, "ticks": "outside"}


def neat(words: str) -> str:
    """A number in words without zeros that say nothing: 10 µs in place of 10.0 µs."""
    number, _, unit = words.partition(" ")
    if "." in number:
        number = number.rstrip("0").rstrip(".")
    return f"{number} {unit}".rstrip()


def seconds_tick(value: float) -> str:
    """10 µs."""
    return neat(numbers.seconds(value))


def layout(title: str, **changes: Any) -> dict[str, Any]:
    """The layout of all figures: nothing but what they share."""
    return {
        "title": {
            "text": text(title),
            "x": 0.01,
            "xanchor": "left",
            "y": 0.98,
            "yanchor": "top",
            "font": {"size": 15},
        },
        "font": {"family": FONT, "size": 12},
        "paper_bgcolor": "#ffffff",
        "plot_bgcolor": "#ffffff",
        "hovermode": "closest",
        "showlegend": True,
        "legend": {
            "orientation": "h",
            "y": 1.02,
            "yanchor": "bottom",
            "x": 0,
            "xanchor": "left",
            "font": {"size": 11},
            "traceorder": "normal",
        },
        "margin": {"l": 56, "r": 16, "t": 84, "b": 48},
        "template": _TEMPLATE,
        **changes,
    }


_GRID = {"gridcolor": "#e2e5e9", "linecolor": "#8a9099", "showline": True, "tickcolor": "#8a9099"}
_TEMPLATE = {"layout": {"xaxis": _GRID, "yaxis": _GRID}}

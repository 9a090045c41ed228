"""Numbers for people: three digits and a unit that fits. Everywhere else, SI units."""

import re
from collections.abc import Sequence

from jaxaccel.records import Timing

_DECIMAL = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))


def seconds(value: float | None) -> str:
    """Three digits and a unit: 18.1 µs."""
    return "–" if value is None else _scaled(value, ((1, "s"), (1e-3, "ms"), (1e-6, "µs"), (1e-9, "ns")))


def rate(value: float | None, unit: str) -> str:
    """Three digits and a decimal prefix, 38.2 GFLOP/s; of what does nothing of the kind, 0 FLOP/s."""
    if value is None:
        return "–"
    prefixed = ((1e12, f"T{unit}"), (1e9, f"G{unit}"), (1e6, f"M{unit}"))
    return _scaled(value, prefixed) if value else f"0 {unit}"


def joules(value: float) -> str:
    """Three digits and a unit: 12.3 mJ."""
    return _scaled(value, ((1e3, "kJ"), (1, "J"), (1e-3, "mJ"), (1e-6, "µJ"), (1e-9, "nJ")))


def volume(value_bytes: int | None) -> str:
    """Three digits and a decimal prefix, none for less than a kB: 512 B, 268 MB."""
    if value_bytes is None:
        return "–"
    return f"{value_bytes} B" if value_bytes < 1000 else _scaled(value_bytes, _prefixed("B"))


def count(value: int) -> str:
    """A number of calls in at most five characters below 10^15: 340, 1.2k, 12k."""
    size, unit = next(((size, unit) for size, unit in _DECIMAL if value >= size), (1.0, ""))
    scaled = value / size
    return f"{scaled:.1f}{unit}" if unit and scaled < 9.95 else f"{scaled:.0f}{unit}"


def interval(timing: Timing | None) -> str:
    """How far off the median may be, in percent; what little is known where there is no interval."""
    if timing is None:
        return ""
    if timing.ci95_s is None:
        return f"(n={timing.n})"
    low, high = timing.ci95_s
    return f"±{(high - low) / 2 / timing.median_s:.1%}"


def ratio(value: float) -> str:
    """A speedup: 0.031x, 1.27x, 59x."""
    return f"{plain(value)}x"


def plain(value: float) -> str:
    """Three digits, and never an exponent where it is large: 0.031, 1.27, 1200."""
    return f"{value:.3g}" if value < 999.5 else f"{value:.0f}"


def brief(value: float) -> str:
    """Three digits, two below 1, zeros included, in six characters at most: 12.0, 0.10, 1.2e-4, 1.2e6."""
    if value >= 999_999.5 or 0 < value < 0.000995:
        return re.sub(r"e\+?(-?)0?", r"e\1", f"{value:.1e}")
    if value >= 999.5:
        return f"{value:.0f}"
    return f"{value:#.3g}".removesuffix(".") if value >= 0.995 else f"{value:#.2g}"


def amount(value: float) -> str:
    """Three digits, zeros included, in seven characters at most: 0.00889, 1.20, 1234, 8.9e-5, 1.2e6."""
    if not 0.000995 <= value < 999_999.5:
        return brief(value)
    return f"{value:.0f}" if value >= 999.5 else f"{value:#.3g}".removesuffix(".")


def _prefixed(unit: str) -> Sequence[tuple[float, str]]:
    return [(size, prefix + unit) for size, prefix in _DECIMAL]


def _scaled(value: float, units: Sequence[tuple[float, str]]) -> str:
    # From 999.5 on, three digits are those of the next unit.
    size, unit = next(((size, unit) for size, unit in units if abs(value) >= 0.9995 * size), units[-1])
    scaled = value / size
    digits = 0 if scaled >= 99.95 else 1 if scaled >= 9.995 else 2
    return f"{scaled:.{digits}f} {unit}"

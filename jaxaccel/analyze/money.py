"""What calls cost: the user's prices of an hour, times measured seconds, and which side is cheaper.

A side's cost of a call is its price of an hour * its time of a call / 3600 s. CPU cost / GPU cost is thus
speedup / price ratio, with speedup = CPU time / GPU time and price ratio = GPU price / CPU price. Prices are
exact: the interval of that quotient is the speedup's over the price ratio, and so is the one for verdicts.
Both sides cost the same where it is 1: the price ratio at which the cheaper side flips is the speedup itself.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date

from jaxaccel.analyze.compare import verdict
from jaxaccel.records import DEVICES, Comparison, Metric, Record, Verdict

# A device that is paid for is kept busy: calls are queued. Where that was not measured, one waits for each.
BY = (Metric.throughput, Metric.latency)
CALLS = 1_000_000
HOUR_S = 3600
LOWEST, HIGHEST = 1e-12, 1e12  # of a price: quotients and products of them stay numbers
LONGEST = 12  # characters of a currency


@dataclass(frozen=True, kw_only=True)
class Prices:
    """What an hour of a device costs, by device, in the user's figures; none is built in.

    date: when these were so, YYYY-MM-DD. currency: what they are in, as it is to be shown; None if not given.

    **Raises** ValueError for a device that there is not, a price out of bounds, another date, a currency that
    is not to be shown.
    """

    per_hour: Mapping[str, float]
    date: str
    currency: str | None = None

    def __post_init__(self) -> None:
        for device, price in self.per_hour.items():
            read_price("per_hour", f"{device}={price}")
        check_date("date", self.date)
        if self.currency is not None:
            check_currency("currency", self.currency)

    @property
    def ratio(self) -> float | None:
        """GPU price / CPU price; None where one of them was not given."""
        cpu, gpu = (self.per_hour.get(device) for device in ("cpu", "gpu"))
        return None if cpu is None or gpu is None else gpu / cpu


@dataclass(frozen=True, kw_only=True)
class CallsCost:
    """What a million calls cost on one device, by its time in `metric`, with that time's 95% interval."""

    metric: Metric
    per_million_calls: float
    ci95: tuple[float, float] | None
    ci_over: str


@dataclass(frozen=True, kw_only=True)
class Bill:
    """What the calls of a case cost on each side that has a price and a time, and which side is cheaper.

    The rest is of pairs with both prices and a metric in common. ratio: CPU cost / GPU cost, above 1 the GPU
    is cheaper. verdict: the cheaper side; equivalent within 2%. flip: the GPU price / CPU price at which both
    cost the same: above it the CPU is cheaper. reason: why there is no interval between two machines.
    """

    cpu: CallsCost | None
    gpu: CallsCost | None
    ratio: float | None = None
    ci95: tuple[float, float] | None = None
    verdict: Verdict | None = None
    flip: float | None = None
    flip_ci95: tuple[float, float] | None = None
    ci_over: str | None = None
    reason: str | None = None


def bill(comparison: Comparison, prices: Prices) -> Bill | None:
    """What a comparison's calls cost; None where no side has both a price and a time.

    The verdict is corrected for the number of comparisons, as those on speed are.
    """
    ok = [record for record in comparison.arms if record.ok]
    common = next((metric for metric in BY if all(metric in record.timings for record in ok)), None)
    sides = {record.arm.requested: calls_cost(record, prices, metric=common) for record in ok}
    cpu, gpu = sides.get("cpu"), sides.get("gpu")
    if cpu is None and gpu is None:
        return None
    speedup = comparison.speedups.get(common) if common else None
    if speedup is None or prices.ratio is None:
        return Bill(cpu=cpu, gpu=gpu)
    return Bill(
        cpu=cpu,
        gpu=gpu,
        ratio=speedup.ratio / prices.ratio,
        ci95=_over(speedup.ci95, prices.ratio),
        verdict=_cheaper(_over(speedup.ci_family, prices.ratio)),
        flip=speedup.ratio,
        flip_ci95=speedup.ci95,
        ci_over=speedup.ci_over,
        reason=speedup.reason,
    )


def calls_cost(record: Record, prices: Prices, *, metric: Metric | None = None) -> CallsCost | None:
    """What a million calls of an arm cost, by `metric` or the first of BY that it has; None if unknown."""
    price = prices.per_hour.get(record.arm.requested)
    metric = metric or next((metric for metric in BY if metric in record.timings), None)
    if price is None or metric is None or not record.ok:
        return None
    timing = record.timings[metric]
    interval = timing.ci95_s
    return CallsCost(
        metric=metric,
        per_million_calls=_cost(price, timing.median_s),
        ci95=interval and (_cost(price, interval[0]), _cost(price, interval[1])),
        ci_over=timing.ci_over,
    )


def metrics_of(bills: Iterable[Bill | None]) -> list[Metric]:
    """By which times these costs are."""
    sides = (side for found in bills if found for side in (found.cpu, found.gpu) if side)
    return list(dict.fromkeys(side.metric for side in sides))


def _cost(price_per_hour: float, call_s: float) -> float:
    return price_per_hour * CALLS * call_s / HOUR_S


def _over(interval: tuple[float, float] | None, ratio: float) -> tuple[float, float] | None:
    return interval and (interval[0] / ratio, interval[1] / ratio)


def _cheaper(interval: tuple[float, float] | None) -> Verdict:
    return Verdict.undecided if interval is None else verdict(interval)


# --- what is given ---------------------------------------------------------------------------------


def read_price(name: str, text: str) -> tuple[str, float]:
    """A device and its price an hour from cpu=0.40.

    **Raises** ValueError, naming the argument `name`, for anything else.
    """
    device, _, number = text.partition("=")
    try:
        price = float(number if "_" not in number else "nan")
    except ValueError:
        price = float("nan")
    if device not in DEVICES or not LOWEST <= price <= HIGHEST:
        raise ValueError(
            f"`{name}` must be one of {', '.join(DEVICES)} with a price per hour above 0 (1e-12 to 1e12), "
            f"such as cpu=0.40, got {text!r}"
        )
    return device, price


def check_date(name: str, text: str) -> None:
    """Refuse what is no date of the form YYYY-MM-DD.

    **Raises** ValueError, naming the argument `name`.
    """
    try:
        known = date.fromisoformat(text).isoformat() == text  # weeks and bare digits are ISO's, too
    except ValueError:
        known = False
    if not known:
        raise ValueError(f"`{name}` must be a date such as 2026-11-26, got {text!r}")


def check_currency(name: str, text: str) -> None:
    """Refuse what is no word that can stand beside a number.

    **Raises** ValueError, naming the argument `name`.
    """
    if not 0 < len(text) <= LONGEST or not text.isprintable() or any(map(str.isspace, text)):
        raise ValueError(f"`{name}` must be one word of 1 to {LONGEST} characters, such as EUR, got {text!r}")

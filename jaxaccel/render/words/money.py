"""What calls cost in words and as columns: what every format says alike."""

from collections.abc import Mapping
from typing import Any

from jaxaccel.analyze.money import Bill, CallsCost, Prices, bill
from jaxaccel.records import DEVICES, Comparison


def heading(prices: Prices) -> str:
    """The figures that all costs come from: prices of 2026-11-26, per hour: cpu 0.40 EUR, gpu 2.10 EUR."""
    currency = f" {prices.currency}" if prices.currency else ""
    figures = [
        f"{device} {figure(prices.per_hour[device])}{currency}"
        for device in DEVICES
        if device in prices.per_hour
    ]
    return f"prices of {prices.date}, as given, per hour: {', '.join(figures)}"


def figure(price: float) -> str:
    """A price with two decimals, or with more where it has more."""
    return f"{price:.2f}" if round(price, 2) == price < 1e9 else f"{price:.12g}"


def columns(comparison: Comparison, prices: Prices) -> dict[str, Any]:
    """The costs of a comparison as columns of its row. Every column is there, whatever is not known."""
    found = bill(comparison, prices) or Bill(cpu=None, gpu=None)
    ratio, flip = found.ci95 or (None, None), found.flip_ci95 or (None, None)
    return {
        "price_date": prices.date,
        "price_currency": prices.currency,
        "cpu_price_per_hour": prices.per_hour.get("cpu"),
        "gpu_price_per_hour": prices.per_hour.get("gpu"),
        "price_ratio_gpu_over_cpu": prices.ratio,
        **_cost_columns("cpu", found.cpu),
        **_cost_columns("gpu", found.gpu),
        "cost_ratio_cpu_over_gpu": found.ratio,
        "cost_ratio_ci95_low": ratio[0],
        "cost_ratio_ci95_high": ratio[1],
        "cheaper": found.verdict and str(found.verdict),
        "cheaper_reason": found.reason,
        "flip_price_ratio_gpu_over_cpu": found.flip,
        "flip_price_ratio_ci95_low": flip[0],
        "flip_price_ratio_ci95_high": flip[1],
        "flip_price_ratio_ci_over": found.ci_over,
    }


def _cost_columns(device: str, cost: CallsCost | None) -> Mapping[str, Any]:
    low, high = (cost and cost.ci95) or (None, None)
    return {
        f"{device}_cost_per_million_calls": cost and cost.per_million_calls,
        f"{device}_cost_per_million_calls_ci95_low": low,
        f"{device}_cost_per_million_calls_ci95_high": high,
        f"{device}_cost_ci_over": cost and cost.ci_over,
        f"{device}_cost_by": cost and str(cost.metric),
    }

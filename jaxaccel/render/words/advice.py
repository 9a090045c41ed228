"""Advice in words."""

from jaxaccel.analyze.advice import Advice, Ask, Measured
from jaxaccel.records import Metric, Verdict
from jaxaccel.render.words.names import family_name
from jaxaccel.render.words.numbers import plain, ratio


def title(family: Measured, ask: Ask) -> str:
    """What is asked: the case, its size, and where its data is."""
    calls = "" if ask.calls == 1 else f", {ask.calls} calls on it"
    where = "on the device" if ask.data == "device" else f"from the host{calls}"
    name = family_name(family.cpu.case, family.machines, family.over)
    by = "" if ask.metric == Metric.latency else f", by {ask.metric}"
    return f"{name}, {ask.over} {ask.size}, data {where}{by}"


def in_words(advice: Advice, what: str = "fast") -> str:
    """Which device, how much, how sure, and why."""
    names = {Verdict.gpu: "the GPU", Verdict.cpu: "the CPU"}
    low, high = advice.low, advice.high
    if advice.device is Verdict.equivalent:
        said = "either: they differ by less than 2%"
    elif advice.device is Verdict.undecided:
        between = f"[{plain(low)}, {plain(high)}]"
        said = f"unsure: the GPU is {ratio(advice.ratio)} as {what} as the CPU {between}"
    else:
        on_gpu = advice.device is Verdict.gpu
        times, ends = (advice.ratio, (low, high)) if on_gpu else (1 / advice.ratio, (1 / high, 1 / low))
        said = f"{names[advice.device]}, {ratio(times)} as {what} [{plain(ends[0])}, {plain(ends[1])}]"
    return f"{said} ({_source(advice)}{_why(advice)})"


def _source(advice: Advice) -> str:
    if len(advice.between) == 1:
        return "measured"
    return f"between {advice.between[0]} and {advice.between[1]}, which were measured"


def _why(advice: Advice) -> str:
    known = [f"{limit} limits the {device.upper()}" for device, limit in advice.limits.items() if limit]
    return f"; {', '.join(known)}" if known else ""

"""Rounds of the arms of a case in random order, until each is known well enough or its time is up."""

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Protocol

import numpy as np

from jaxaccel.analyze.stats import Burst, relative_half_width
from jaxaccel.records import Metric
from jaxaccel.records.messages import AskRound, Failure, Message, Round, Unavailable


@dataclass(frozen=True, kw_only=True)
class Stop:
    """When a metric of an arm has been sampled enough in one pass.

    relative_ci: half-width of its 95% interval, relative to the median. limit_s: seconds of sampling at most.
    max_rounds: rounds at most.
    """

    relative_ci: float
    limit_s: float
    max_rounds: int = 30


# What a metric gets of the time that latency and throughput get each, and how much wider its interval may be:
# there are six of transfers, of which nobody needs the last percent.
SHARES = {Metric.latency: (1.0, 1.0), Metric.throughput: (1.0, 1.0), Metric.device: (0.5, 1.0)}
TRANSFER_SHARE = (0.3, 2.0)


def stop_of(metric: Metric, stop: Stop) -> Stop:
    """When a metric has been sampled enough, where `stop` says so for a latency."""
    time_share, width_share = SHARES.get(metric, TRANSFER_SHARE)
    return replace(stop, relative_ci=stop.relative_ci * width_share, limit_s=stop.limit_s * time_share)


class Sampler(Protocol):
    """An open arm, as the loop sees it."""

    def round(self, metric: Metric) -> Round | Unavailable | Failure:
        """A short burst of samples, or why there is none: of this metric, or of anything any more."""


@dataclass(kw_only=True)
class Sampled:
    """What the loop gathered from one arm."""

    bursts: list[Burst] = field(default_factory=list)
    medians: list[float] = field(default_factory=list)
    sampling_s: float = 0.0
    warmup_s: float = 0.0
    slowdowns: set[str] = field(default_factory=set)
    failure: Failure | None = None
    unavailable: str | None = None

    @property
    def over(self) -> bool:
        """Whether no more can be had."""
        return self.failure is not None or self.unavailable is not None

    @property
    def width(self) -> float:
        """Half-width of the median's interval, relative to it."""
        return relative_half_width(self.medians)


Between = Callable[[Mapping[str, Sampled]], None]


def sample(
    arms: Mapping[str, Sampler],
    metric: Metric,
    stop: Stop,
    *,
    pass_index: int,
    rng: random.Random,
    between: Between = lambda _: None,
) -> dict[str, Sampled]:
    """Sample a metric on all `arms`, one working at a time, each round's order drawn anew.

    All go on until every one that has time left is known well enough, so that their rounds stay pairs.
    `between` is called after each round, when no arm is being timed. An arm that fails drops out, or one that
    can't give this metric; what it gave before stays.
    """
    found = {name: Sampled() for name in arms}
    for order in range(stop.max_rounds):
        able = [n for n, got in found.items() if not got.over and got.sampling_s < stop.limit_s]
        if all(found[name].width <= stop.relative_ci for name in able):
            break
        for name in rng.sample(able, len(able)):
            got = found[name]
            reply = arms[name].round(metric)
            if isinstance(reply, Failure):
                got.failure = reply
                continue
            if isinstance(reply, Unavailable):
                got.unavailable = reply.reason
                continue
            got.bursts.append(Burst(pass_index, order, reply.samples_s, reply.depth))
            got.medians.append(float(np.median(reply.samples_s)))
            got.sampling_s += reply.spent_s
            got.warmup_s += reply.warmup_s
            got.slowdowns.update(reply.slowdowns)
        between(found)
    return found


class Asked(Protocol):
    """What is needed of a worker."""

    @property
    def alive(self) -> bool:
        """Whether it can still be asked."""

    def ask(self, request: Message) -> Message:
        """Its answer."""


class OpenArm:
    """An arm that is open in a worker, under a key, as the sampling loop sees it."""

    def __init__(self, worker: Asked, key: str) -> None:
        self._worker, self._key = worker, key

    def round(self, metric: Metric) -> Round | Unavailable | Failure:
        """The worker's answer."""
        return as_round(self._worker.ask(AskRound(key=self._key, metric=metric)))


def as_round(reply: Message) -> Round | Unavailable | Failure:
    """A worker's answer to a request for a round.

    **Raises** TypeError where it is an answer to something else.
    """
    if not isinstance(reply, Round | Unavailable | Failure):
        raise TypeError(f"a worker answered with {type(reply).__name__}")
    return reply


def why(reply: Message) -> str:
    """In words, why a worker gave this in place of what it was asked for."""
    if isinstance(reply, Unavailable):
        return reply.reason
    if isinstance(reply, Failure):
        return reply.error.message
    return f"a worker answered with {type(reply).__name__}"

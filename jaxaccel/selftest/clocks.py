"""How long does a kernel take? The loop's slope, JAX's profiler and CUPTI must tell the same."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

import numpy as np

from jaxaccel.records import Arm, Metric
from jaxaccel.records.messages import AskRound, Close, Failure, Inspect, Inspected, Message, Open, Round
from jaxaccel.selftest.check import Check, Outcome, holds
from jaxaccel.session.rounds import why
from jaxaccel.session.worker_process import worker_variables

SIZE = 16384  # of a matrix-vector product, whose kernel takes 335 µs on an H100: a trip adds 1 to 3
AGREE, FROM_S = 0.03, 50e-6
ROUNDS = 5
CUPTI_TIMEOUT_S = 300.0


class Asked(Protocol):
    """What is needed of a worker."""

    def ask(self, request: Message) -> Message:
        """Its answer."""


def cupti() -> Sequence[float] | str:
    """Seconds of calls by CUPTI, in a process that is thrown away, or why there are none."""
    try:
        done = subprocess.run(
            [sys.executable, "-m", "jaxaccel.selftest.cupti", str(SIZE)],
            env={**os.environ, **worker_variables("gpu")},
            capture_output=True,
            text=True,
            timeout=CUPTI_TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return f"CUPTI gave no answer within {CUPTI_TIMEOUT_S:.0f} s"
    if done.returncode != 0:
        words = done.stderr.strip().splitlines()
        return f"CUPTI can't be had: {words[-1][:200] if words else f'exit code {done.returncode}'}"
    times_s: list[float] = json.loads(done.stdout.splitlines()[-1])
    return times_s or "CUPTI saw no kernel"


def checks(
    worker: Asked, device: str, arm: Arm, ask_cupti: Callable[[], Sequence[float] | str] = cupti
) -> Iterator[Check]:
    """Whether the slope, and CUPTI, say of a kernel of `arm` what the profiler says of it."""
    by_slope, by_cupti = f"{device}: slope and profiler agree", f"{device}: CUPTI and profiler agree"
    profiled: tuple[float, float | str] | str = (
        "a CPU has no profiler of kernels: its device time is the slope"
        if device == "cpu"
        else _profiled(worker, arm)
    )
    if isinstance(profiled, str):
        yield _agree(by_slope, 0.0, profiled)
        yield _agree(by_cupti, 0.0, profiled)
        return
    profiler_s, slope_s = profiled
    yield _agree(by_slope, profiler_s, slope_s)
    times_s = ask_cupti()
    yield _agree(by_cupti, profiler_s, times_s if isinstance(times_s, str) else float(np.median(times_s)))


def _profiled(worker: Asked, arm: Arm) -> tuple[float, float | str] | str:
    """Seconds of a kernel by the profiler, and by the slope; or why there are none."""
    reply = worker.ask(Open(key="clocks", arm=arm, metrics=(Metric.device,)))
    if isinstance(reply, Failure):
        return reply.error.message
    try:
        medians = []
        for _ in range(ROUNDS):
            reply = worker.ask(AskRound(key="clocks", metric=Metric.device))
            if not isinstance(reply, Round):
                return why(reply)
            medians.append(float(np.median(reply.samples_s)))
        reply = worker.ask(Inspect(key="clocks"))
    finally:
        worker.ask(Close(key="clocks"))
    if not isinstance(reply, Inspected):
        return why(reply)
    slope_s = reply.device_time.slope_s if reply.device_time else None
    return float(np.median(medians)), slope_s or reply.absent.get("device_time.slope_s", "there is no slope")


def _agree(name: str, profiler_s: float, other_s: float | str) -> Check:
    """Skipped where `other_s` is the reason why there is nothing to compare."""
    expected = f"within {AGREE:.0%} above {1e6 * FROM_S:.0f} µs"
    if not isinstance(other_s, str) and profiler_s < FROM_S:
        other_s = f"the kernel takes {1e6 * profiler_s:.1f} µs on this device"
    if isinstance(other_s, str):
        return Check(name=name, expected=expected, found=other_s, outcome=Outcome.skipped)
    off = other_s / profiler_s - 1
    found = f"{1e6 * other_s:.1f} µs beside the profiler's {1e6 * profiler_s:.1f} µs: {off:+.1%}"
    return holds(name, abs(off) <= AGREE, expected=expected, found=found)

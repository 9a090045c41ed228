"""The harness on the machine at hand: equal arms, calls of known duration, mutants, honest workloads."""

import math
import random
from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np

from jaxaccel.analyze import compare, stats
from jaxaccel.hardware.host import LoadMeter
from jaxaccel.records import RESIDENT, Arm, Case, Metric, Record, Verdict
from jaxaccel.records.messages import AskRound, Close, Failure, Message, Open, Opened, Round
from jaxaccel.selftest import clocks
from jaxaccel.selftest.check import Check, Outcome, holds, share
from jaxaccel.session import session
from jaxaccel.session.arm_run import Command
from jaxaccel.session.ceilings import Book
from jaxaccel.session.evidence import WITHIN_CEILING
from jaxaccel.session.rounds import OpenArm, Sampled, Stop, sample
from jaxaccel.session.worker_process import Worker

EQUAL_ARMS_STOP = Stop(relative_ci=0.01, limit_s=0.15)
SLEEP_S = 0.005  # of worker.mutants.Sleeper
POWER = 1.43  # (1.96 + 0.84) / 1.96: a difference that 80% of runs find, in half widths of the interval

# Each mutant, and the invariant that must catch it.
MUTANTS = {
    "NoBlock": "output awaited",
    "CapturedConstant": "everything an argument",
    "HoistedLoop": "operations there",
    "DroppedOutput": "operations there",
    "NumpyArgument": "no transfer timed",
    "WrongDevice": "on the device",
    "ReducedPrecision": "answer right",
}
MUTANT_SIZE = 2048
# A call must take longer than its dispatch, or an unawaited one has finished by chance.
LONG_CALL = {"cpu": 4096, "gpu": 8192}

MATVEC = "jaxaccel.workloads.matvec:Matvec"
CEILING_STOP = Stop(relative_ci=0.01, limit_s=0.5)
# What is opened here is opened for these.
TIMED = (Metric.latency, Metric.throughput)

HONEST = (
    ("matvec", MATVEC, (1, 7, 256, 1024, 2048)),
    ("dot", "jaxaccel.workloads.dot:Dot", (1, 7, 1000, 65536, 1 << 20)),
    ("mlp", "jaxaccel.workloads.mlp:Mlp", (1, 16, 64, 256, 512)),
    ("mlp_article", "jaxaccel.workloads.mlp_article:MlpArticle", (50,)),
    ("matmul", "jaxaccel.workloads.matmul:Matmul", (1, 7, 256, 512)),
    ("stream", "jaxaccel.workloads.stream:Stream", (1, 7, 65536, 1 << 20)),
    ("transfer", "jaxaccel.workloads.transfer:Transfer", (1, 7, 65536, 1 << 20)),
)
HONEST_METRICS = (*RESIDENT, Metric.end_to_end)
DTYPES = ("float32", "bfloat16", "float16", "float64")


def checks(device: str, *, quick: bool, told: Callable[[str], None]) -> Iterator[Check]:
    """All checks on a device; `told` hears what is being done."""
    with Worker(device, variables=_second_device(device)) as worker:
        started = worker.ready()
        if isinstance(started, Failure):
            yield Check(
                name=f"{device}: worker",
                expected="starts",
                found=started.error.message,
                outcome=Outcome.failed,
            )
            return
        told(f"{device}: mutants")
        for name, invariant in MUTANTS.items():
            yield _mutant(worker, device, name, invariant)
        told(f"{device}: a call of known duration")
        yield _known_duration(worker, device)
    runs = 20 if quick else 100
    with Worker(device) as worker:
        told(f"{device}: {runs} pairs of equal arms")
        yield from _equal_arms(worker, device, runs)
        count = 8 if quick else 50
        told(f"{device}: {count} honest workloads")
        yield _honest(worker, device, count)
        told(f"{device}: device time by slope, profiler and CUPTI")
        yield from clocks.checks(worker, device, _arm(device, MATVEC, size=clocks.SIZE))
    told(f"{device}: rates against ceilings")
    yield from _rates(device, Worker)


def _second_device(device: str) -> Mapping[str, str]:
    """What gives a worker another device beside its own, for a mutant to stray to."""
    return {"JAX_NUM_CPU_DEVICES": "2"} if device == "cpu" else {}


def _arm(device: str, target: str, *, size: int, dtype: str = "float32") -> Arm:
    name = target.partition(":")[2].lower()
    case = Case(workload=name, size=size, dtype=dtype, precision="highest", variant="direct")
    return Arm(case=case, device=device, target=target)


def _measure(
    worker: Worker, arm: Arm, metrics: tuple[Metric, ...] = TIMED
) -> tuple[Failure | None, dict[Metric, Round]]:
    """Open an arm, take a round of each metric that can be had, close it: what failed, and the rounds."""
    rounds: dict[Metric, Round] = {}
    reply: Message = worker.ask(Open(key="arm", arm=arm, metrics=metrics))
    if not isinstance(reply, Opened):
        assert isinstance(reply, Failure)
        return reply, rounds
    try:
        for metric in reply.metrics:
            reply = worker.ask(AskRound(key="arm", metric=metric))
            if isinstance(reply, Failure):
                return reply, rounds
            if isinstance(reply, Round):
                rounds[metric] = reply
    finally:
        worker.ask(Close(key="arm"))
    return None, rounds


def _mutant(worker: Worker, device: str, name: str, invariant: str) -> Check:
    size = LONG_CALL[device] if name == "NoBlock" else MUTANT_SIZE
    failure, _ = _measure(worker, _arm(device, f"jaxaccel.selftest.mutants:{name}", size=size))
    found = failure.error.type if failure else "nothing"
    return holds(
        f"{device}: mutant {name}",
        found == invariant,
        expected=f"caught by “{invariant}”",
        found=f"caught by “{found}”" if failure else "not caught",
    )


def _known_duration(worker: Worker, device: str) -> Check:
    name = f"{device}: a call that sleeps {1e3 * SLEEP_S:.0f} ms"
    failure, rounds = _measure(worker, _arm(device, "jaxaccel.selftest.mutants:Sleeper", size=8))
    expected = f"never below {1e3 * SLEEP_S:.0f} ms"
    if failure:
        return Check(name=name, expected=expected, found=failure.error.message, outcome=Outcome.failed)
    samples = rounds[Metric.latency].samples_s
    found = f"{1e3 * min(samples):.2f} ms to {1e3 * max(samples):.2f} ms"
    return holds(name, min(samples) >= SLEEP_S, expected=expected, found=found)


def _equal_arms(worker: Worker, device: str, runs: int) -> Iterator[Check]:
    """One case, opened twice in one worker, so that nothing but chance sets the two apart.

    A small one: two large matrices lie differently in memory and in the caches, which is a real difference.
    """
    arm = _arm(device, MATVEC, size=256)
    keys = ("cpu", "gpu")  # the names of a pair's sides; both are on `device`
    for key in keys:
        reply = worker.ask(Open(key=key, arm=arm, metrics=TIMED))
        if not isinstance(reply, Opened):
            found = reply.error.message if isinstance(reply, Failure) else "no answer"
            yield Check(name=f"{device}: equal arms", expected="open", found=found, outcome=Outcome.failed)
            return
    order = random.Random(0)
    held, fine, widths = 0, 0, list[float]()
    for run in range(runs):
        got = sample(
            {key: OpenArm(worker, key) for key in keys},
            Metric.latency,
            EQUAL_ARMS_STOP,
            pass_index=run,
            rng=order,
        )
        sides = [stats.summarize(got[key].bursts, converged=True) for key in keys]
        speedup = compare.speedup(*sides, interleaved=True)
        low, high = speedup.ci95 or (0.0, math.inf)
        held += low <= 1 <= high
        fine += speedup.verdict not in (Verdict.gpu, Verdict.cpu)
        widths.append((high - low) / 2)
    for key in keys:
        worker.ask(Close(key=key))
    yield share(f"{device}: equal arms, interval holds 1.00", held, runs, at_least=0.90)
    yield share(f"{device}: equal arms, no false verdict", fine, runs, at_least=0.95)
    smallest = POWER * float(np.median(widths))
    yield Check(
        name=f"{device}: smallest difference found",
        expected="told",
        found=f"{smallest:.1%} in 80% of runs of {EQUAL_ARMS_STOP.limit_s} s",
        outcome=Outcome.passed,
    )


def _honest(worker: Worker, device: str, count: int) -> Check:
    """Workloads as they are shipped, over sizes, types and metrics: none may be accused."""
    arms = [
        _arm(device, target, size=size, dtype=dtype)
        for dtype in DTYPES
        for _, target, sizes in HONEST
        for size in sizes
    ]
    chosen: Sequence[Arm] = random.Random(0).sample(arms, min(count, len(arms)))
    accused = []
    for arm in chosen:
        failure, _ = _measure(worker, arm, HONEST_METRICS)
        if failure:
            accused.append(f"{arm.case} ({failure.error.type})")
    return holds(
        f"{device}: honest workloads",
        not accused,
        expected=f"none of {len(chosen)} accused",
        found="; ".join(accused) if accused else "none",
    )


class _Silent:
    """Tells nobody how a session goes."""

    def doing(self, case: str, pass_index: int, done: int, total: int) -> None:
        """Nothing."""

    def beside(self, what: str) -> None:
        """Nothing."""

    def opened(self, device: str, call_s: float) -> None:
        """Nothing."""

    def sampling(self, metric: Metric) -> None:
        """Nothing."""

    def sampled(self, metric: Metric, found: Mapping[str, Sampled]) -> None:
        """Nothing."""

    def passed(self, pass_index: int, passes: int, records: Sequence[Record]) -> None:
        """Nothing."""


def _rates(device: str, launch: session.Launch, meter: session.Meter | None = None) -> Iterator[Check]:
    """A session's own verdict on rates: an honest one is within its ceiling, ten times that is not."""
    targets = (MATVEC, "jaxaccel.selftest.mutants:OverstatedCost")
    groups = [
        session.Group(
            stop=CEILING_STOP, metrics=RESIDENT, arms={device: _arm(device, target, size=MUTANT_SIZE)}
        )
        for target in targets
    ]
    plan = session.Plan(
        groups=groups,
        command=Command(line="python -m jaxaccel.selftest", sweep_id="selftest"),
        meter=meter or LoadMeter(),
        book=Book(folder=None),
    )
    # The last of each is the fullest.
    honest, overstated = dict(session.measure(plan, launch, _Silent())).values()
    return _within_ceilings(device, honest, overstated)


def _within_ceilings(device: str, honest: Record, overstated: Record) -> Iterator[Check]:
    said, other = (_said_of_rate(record) for record in (honest, overstated))
    yield holds(
        f"{device}: an honest rate",
        said.startswith(("passed", "flagged")),
        expected=f"no break of “{WITHIN_CEILING}”",
        found=said,
    )
    outcome = (
        Outcome.passed if overstated.error and overstated.error.type == WITHIN_CEILING else Outcome.failed
    )
    if other.startswith("flagged"):  # on a CPU whose host is busy with other work, where more may be noise
        outcome = Outcome.inconclusive
    yield Check(
        name=f"{device}: mutant OverstatedCost",
        expected=f"caught by “{WITHIN_CEILING}”",
        found=f"caught by “{WITHIN_CEILING}”" if outcome is Outcome.passed else other,
        outcome=outcome,
    )


def _said_of_rate(record: Record) -> str:
    found = record.invariants.get(WITHIN_CEILING)
    return found or (record.error.message if record.error else "nothing")

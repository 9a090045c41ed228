"""Stand-ins for clocks, workers and devices, and a builder of valid records: known numbers, seeded."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from jaxaccel import __version__
from jaxaccel.analyze.stats import Burst, summarize
from jaxaccel.records import (
    RESIDENT,
    SCHEMA_VERSION,
    Accuracy,
    Arm,
    ArmFacts,
    Case,
    Ceiling,
    Ceilings,
    Code,
    Compile,
    Cost,
    DeviceTime,
    Energy,
    Flag,
    HostLoad,
    Kernel,
    Limit,
    Memory,
    Metric,
    Problem,
    Rates,
    Record,
    Spent,
    Status,
    Timing,
    Transfers,
)
from jaxaccel.records.messages import (
    AskRound,
    Close,
    Closed,
    Failure,
    Inspect,
    Inspected,
    Message,
    Open,
    Opened,
    Round,
    Started,
    Unavailable,
)
from jaxaccel.session.rounds import Sampled, Stop
from jaxaccel.session.session import Group

# --- a clock ---------------------------------------------------------------------------------------


class FakeClock:
    """Seconds that pass only when someone says so."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s

    def advance(self, by_s: float) -> None:
        self.now_s += by_s


class FakeProgram:
    """A compiled program: `call` queues and takes no time, `block` waits for all that is queued.

    `times_s` gives the duration of each call, and its last one of all calls after it. `blocking_s` is what
    one wait costs on top. `settle` waits for earlier calls while later ones go on. `blocked` and `settled`
    are what was waited for; `most` is how many calls were under way at once.
    """

    def __init__(self, clock: FakeClock, *times_s: float, blocking_s: float = 0.0) -> None:
        self._clock, self._times_s, self._blocking_s = clock, times_s, blocking_s
        self._ends_s: dict[int, float] = {}
        self._last_s = 0.0
        self.calls = 0
        self.blocked: list[Any] = []
        self.settled: list[Any] = []
        self.most = 0

    def call(self) -> int:
        """The number of this call, from 1."""
        took_s = self._times_s[min(self.calls, len(self._times_s) - 1)]
        self._last_s = max(self._last_s, self._clock.now_s) + took_s
        self.calls += 1
        self._ends_s[self.calls] = self._last_s
        self.most = max(self.most, len(self._ends_s))
        return self.calls

    def block(self, result: Any) -> Any:
        self.blocked.append(result)
        self._wait(self.calls)
        self._clock.advance(self._blocking_s)
        return result

    def settle(self, results: Sequence[int]) -> None:
        self.settled.append(results)
        self._wait(results[-1])

    def _wait(self, call: int) -> None:
        self._clock.advance(max(0.0, self._ends_s.get(call, 0.0) - self._clock.now_s))
        self._ends_s = {other: end_s for other, end_s in self._ends_s.items() if other > call}


# --- arms and workers ------------------------------------------------------------------------------

Draw = Callable[[np.random.Generator], Sequence[float]]


def steady(time_s: float, n: int = 15) -> Draw:
    """Rounds of `n` samples that all take `time_s`."""
    return lambda _: [time_s] * n


def noisy(time_s: float, spread: float, n: int = 15) -> Draw:
    """Rounds of `n` independent normal samples around `time_s`."""
    return lambda rng: list(time_s * (1 + spread * rng.standard_normal(n)))


def shaken(time_s: float, spread: float, n: int = 15) -> Draw:
    """Rounds of `n` samples that agree within a round, and differ between rounds by `spread`."""
    return lambda rng: [time_s * float(np.exp(spread * rng.standard_normal()))] * n


@dataclass(frozen=True, kw_only=True)
class Behaviour:
    """How an arm acts in a worker. Rounds are counted from its opening, over all metrics."""

    draw: Draw = field(default_factory=lambda: noisy(1e-4, 0.005))
    queued: Draw | None = None  # for throughput, where it differs
    round_s: float | None = None  # what a round takes; the sum of its samples where none is given
    warmup_s: float = 0.0
    on_open: Failure | None = None
    fails_in_round: int | None = None
    failing: Failure | None = None  # with what, where it is not a plain one
    dies_in_round: int | None = None  # -1: it dies of opening
    cache: str = "miss"
    slowdowns: tuple[str, ...] = ()
    absent: Mapping[str, str] = field(default_factory=dict)
    offers: tuple[Metric, ...] = tuple(Metric)  # of those that it is opened for
    unavailable: Mapping[Metric, str] = field(default_factory=dict)  # in place of rounds
    inspected: Inspected | Failure = field(default_factory=lambda: INSPECTED)
    dies_in_inspection: bool = False
    code: Code | None = None
    packages: Mapping[str, str] = field(default_factory=dict)
    closed: Closed | Failure = field(default_factory=Closed)


class FakeArm:
    """An open arm that answers from a distribution. `log` gets its name at each round."""

    def __init__(
        self, behaviour: Behaviour, *, seed: int = 0, name: str = "", log: list[str] | None = None
    ) -> None:
        self._behaviour, self._name = behaviour, name
        self._rng = np.random.default_rng(seed)
        self._log = [] if log is None else log
        self.rounds = 0

    def round(self, metric: Metric) -> Round | Unavailable | Failure:
        """A round, or the failure that was arranged for it."""
        self._log.append(self._name)
        number, self.rounds = self.rounds, self.rounds + 1
        if number == self._behaviour.fails_in_round:
            return self._behaviour.failing or failure("Runtime", "it broke in a round")
        if reason := self._behaviour.unavailable.get(metric):
            return Unavailable(reason=reason)
        queued = self._behaviour.queued if metric is Metric.throughput else None
        samples = tuple(float(value) for value in (queued or self._behaviour.draw)(self._rng))
        return Round(
            samples_s=samples,
            depth=1 if metric is Metric.latency else 8,
            spent_s=sum(samples) if self._behaviour.round_s is None else self._behaviour.round_s,
            warmup_s=self._behaviour.warmup_s,
            slowdowns=self._behaviour.slowdowns,
        )


class FakeWorker:
    """A worker that answers Open, AskRound, Inspect and Close in this process, and may die of them."""

    def __init__(self, lab: "FakeLab", device: str, start: Started | Failure, start_s: float) -> None:
        self._lab, self._start = lab, start
        self.start_s = start_s if isinstance(start, Started) else 0.0
        self.device = device
        self.dead = isinstance(start, Failure)
        self.stopped = False
        self._arms: dict[str, tuple[FakeArm, Behaviour]] = {}

    @property
    def alive(self) -> bool:
        return not self.dead and not self.stopped

    def ready(self) -> Started | Failure:
        return self._start

    def stop(self) -> None:
        self.stopped = True

    def ask(self, request: Message) -> Message:
        assert not self.stopped, "a stopped worker was asked"
        self._lab.requests.append((self.device, request))
        if isinstance(self._start, Failure):
            return self._start
        return self._died() if self.dead else self._answer(request)

    def _answer(self, request: Message) -> Message:
        match request:
            case Open():
                behaviour = self._lab.behave(request.arm)
                if behaviour.dies_in_round == -1:
                    return self._died()
                if behaviour.on_open:
                    return behaviour.on_open
                seed = self._lab.next_seed()
                self._arms[request.key] = FakeArm(behaviour, seed=seed), behaviour
                metrics = tuple(metric for metric in request.metrics if metric in behaviour.offers)
                facts = opened(self.device, cache=behaviour.cache, absent=behaviour.absent, metrics=metrics)
                return replace(facts, code=behaviour.code, packages=behaviour.packages)
            case AskRound():
                arm, behaviour = self._arms[request.key]
                return self._died() if arm.rounds == behaviour.dies_in_round else arm.round(request.metric)
            case Inspect():
                _, behaviour = self._arms[request.key]
                return self._died() if behaviour.dies_in_inspection else behaviour.inspected
            case Close():
                return self._arms.pop(request.key)[1].closed
        raise AssertionError(f"a worker is never asked {request}")

    def _died(self) -> Failure:
        self.dead = True
        return failure("WorkerDied", f"the {self.device} worker was ended by signal 9", hint="a smaller size")


class FakeLab:
    """Launches fake workers, remembers them and all requests, and allows one alive a device.

    `behave` says how an arm acts. A device in `broken` never starts. Everything is drawn from `seed`.
    """

    def __init__(
        self,
        behave: Callable[[Arm], Behaviour] | None = None,
        *,
        broken: Mapping[str, Failure] | None = None,
        start_s: float = 2.0,
        seed: int = 0,
    ) -> None:
        self.behave = behave or (lambda _: Behaviour())
        self._broken, self._start_s, self._seed = broken or {}, start_s, seed
        self.workers: list[FakeWorker] = []
        self.requests: list[tuple[str, Message]] = []

    def launch(self, device: str) -> FakeWorker:
        assert not any(w.alive for w in self.of(device)), f"a {device} worker is alive already"
        start = self._broken.get(device) or started(device)
        worker = FakeWorker(self, device, start, self._start_s)
        self.workers.append(worker)
        return worker

    def of(self, device: str) -> list[FakeWorker]:
        """All workers that this device ever had."""
        return [worker for worker in self.workers if worker.device == device]

    def opened(self, device: str) -> list[Case]:
        """The cases that workers of this device were asked to open, in order."""
        return [r.arm.case for asked, r in self.requests if asked == device and isinstance(r, Open)]

    def next_seed(self) -> int:
        self._seed += 1
        return self._seed


class FakeWatcher:
    """Remembers what it was told."""

    def __init__(self) -> None:
        self.steps: list[tuple[str, int, int, int]] = []
        self.rounds = 0
        self.besides: list[str] = []
        self.opening: list[str] = []
        self.calls_s: dict[str, float] = {}
        self.metrics: list[Metric] = []
        self.passes: list[tuple[int, int, int]] = []
        self.records: list[Sequence[Record]] = []  # after each pass

    def doing(self, case: str, pass_index: int, done: int, total: int) -> None:
        self.steps.append((case, pass_index, done, total))

    def beside(self, what: str) -> None:
        (self.opening if what.startswith("opening") else self.besides).append(what)

    def opened(self, device: str, call_s: float) -> None:
        self.calls_s[device] = call_s

    def sampling(self, metric: Metric) -> None:
        self.metrics.append(metric)

    def sampled(self, metric: Metric, found: Mapping[str, Sampled]) -> None:
        self.rounds += 1

    def passed(self, pass_index: int, passes: int, records: Sequence[Record]) -> None:
        self.passes.append((pass_index, passes, len(records)))
        self.records.append(records)


class FakeMeter:
    """Always reads the same load."""

    def __init__(self, others_cores: float = 0.0, stolen_cores: float | None = None) -> None:
        self.load = HostLoad(others_cores=others_cores, stolen_cores=stolen_cores)

    def read(self) -> HostLoad:
        return self.load


def patiently(ask: Callable[[], Round | Unavailable]) -> Round:
    """A real round: on a machine where others have work, noise can hide a slope for a while."""
    for _ in range(5):
        found = ask()
        if isinstance(found, Round):
            return found
    raise AssertionError(found.reason)


# --- valid data ------------------------------------------------------------------------------------

CPU_ENVIRONMENT = {"host_id": "abc", "python": "3.12.4", "cpu": {"model": "EPYC", "cores": 8}}
FLOOR_S = {"latency": 1e-5, "throughput": 5e-6}
INSPECTED = Inspected(
    device_time=DeviceTime(source="slope"),
    spent_s=0.5,
    absent={"energy": "there is no counter here", "device_time.slope_s": "it is the timing itself"},
)
GPU_ENVIRONMENT = CPU_ENVIRONMENT | {"gpu": {"name": "H200", "driver": "580.1"}}
TRANSFERS = {
    "cpu": Transfers(h2d_bytes=4_000_000, d2h_bytes=4_096, h2d="aliased", d2h="aliased"),
    "gpu": Transfers(h2d_bytes=4_000_000, d2h_bytes=4_096, h2d="copied", d2h="copied"),
}
DEVICE_TIME = {
    "cpu": DeviceTime(source="slope"),
    "gpu": DeviceTime(
        source="profiler",
        kernels=(
            Kernel(name="gemv2T_kernel_val", time_s=3e-5, launches=1, share=0.75),
            Kernel(name="loop_add_fusion", time_s=1e-5, launches=2, share=0.25),
        ),
        slope_s=4.1e-5,
    ),
}
ENERGY = {
    "gpu": Energy(
        per_call_j=0.0125,
        above_idle_per_call_j=0.009,
        uncertainty_j=0.0005,
        idle_w=75.0,
        source="NVML total energy",
        scope="GPU board",
        resolution_s=0.1,
        calls=50_000,
        duration_s=2.0,
    )
}


def _ceilings(bytes_per_s: float, flops_per_s: float, up_bytes_per_s: float) -> Ceilings:
    def of(workload: str, rate_per_s: float) -> Ceiling:
        return Ceiling(rate_per_s=rate_per_s, workload=workload, working_set_bytes=1 << 22)

    return Ceilings(
        measured_at="2026-01-02T03:00:00+00:00",
        memory=of("stream 1048576 kind=read float32 highest", bytes_per_s),
        compute=of("matmul 1024 float32 highest", flops_per_s),
        transfers={"h2d": of("transfer 1048576 float32 highest", up_bytes_per_s)},
    )


CEILINGS = {"cpu": _ceilings(1e11, 5e11, 1e10), "gpu": _ceilings(1e11, 5e11, 2.5e10)}


def failure(kind: str, message: str, *, hint: str | None = None, refused: bool = False) -> Failure:
    return Failure(error=Problem(type=kind, message=message, hint=hint), refused=refused)


def started(device: str, *, ready_at: float = 2.0) -> Started:
    environment = CPU_ENVIRONMENT if device == "cpu" else GPU_ENVIRONMENT
    return Started(arm=facts_of(device), ready_at=ready_at, environment=environment)


def facts_of(device: str) -> ArmFacts:
    kind = "AMD EPYC" if device == "cpu" else "NVIDIA H200"
    flags = {"jax_enable_x64": "False"}
    platform = "cpu" if device == "cpu" else "cuda"
    return ArmFacts(requested=device, platform=platform, kind=kind, count=1, variant="direct", flags=flags)


def opened(
    device: str,
    *,
    cache: str = "miss",
    absent: Mapping[str, str] | None = None,
    metrics: tuple[Metric, ...] = (Metric.latency, Metric.throughput),
) -> Opened:
    return Opened(
        arm=facts_of(device),
        floor_s=FLOOR_S,
        compile=Compile(trace_s=0.25, lower_s=0.125, compile_s=0.5, cache=cache),
        first_call_s=0.01,
        cost=Cost(flops=2e6, bytes=4e6),
        accuracy=Accuracy(relative_error=1e-7, tolerance=1e-5, ok=True, reference="float64"),
        memory=Memory(predicted_bytes=4_000_000, capacity_bytes=16 << 30),
        spent_s=Spent(data=0.5, compile=1.0, warmup=0.25, reference=0.125),
        invariants={"answer": "passed"},
        metrics=metrics,
        transfers=TRANSFERS[device] if set(metrics) - set(RESIDENT) else None,
        absent=absent or {},
    )


def make_case(size: int = 1024, **changes: Any) -> Case:
    fields = {"workload": "matvec", "dtype": "float32", "precision": "highest", "variant": "direct"}
    return Case(**(fields | {"size": size} | changes))


def make_group(
    case: Case,
    *devices: str,
    passes: int = 1,
    relative_ci: float = 0.01,
    limit_s: float = 1000.0,
    metrics: tuple[Metric, ...] = (Metric.latency, Metric.throughput),
    energy_s: float = 0.0,
    needed: tuple[Metric, ...] | None = None,
) -> Group:
    arms = {device: Arm(case=case, device=device, target="fakes:None") for device in devices}
    stop = Stop(relative_ci=relative_ci, limit_s=limit_s)
    return Group(stop=stop, passes=passes, arms=arms, metrics=metrics, energy_s=energy_s, needed=needed)


def bursts(rounds: Sequence[Sequence[float]], *, pass_index: int = 0, depth: int = 1) -> list[Burst]:
    """One pass of rounds."""
    return [Burst(pass_index, order, tuple(samples), depth) for order, samples in enumerate(rounds)]


def make_timing(*passes: Sequence[Sequence[float]], converged: bool = True, depth: int = 1) -> Timing:
    """The Timing of passes, each a sequence of rounds, each a sequence of samples."""
    everything = [b for i, rounds in enumerate(passes) for b in bursts(rounds, pass_index=i, depth=depth)]
    return summarize(everything, converged=converged)


def noisy_timing(
    median_s: float, *, spread: float = 0.01, passes: int = 1, rounds: int = 8, n: int = 15, seed: int = 0
) -> Timing:
    """A Timing of independent normal noise."""
    shape = (passes, rounds, n)
    samples = median_s * (1 + spread * np.random.default_rng(seed).standard_normal(shape))
    return make_timing(*samples.tolist())


def make_timings(
    device: str, latency_s: float, *, transfer_s: float = 0.0, seed: int = 0
) -> dict[str, Timing]:
    """A timing of each metric that the device has; h2d takes `transfer_s`, d2h a tenth, pinned a quarter."""
    moved = {Metric.h2d: transfer_s, Metric.d2h: transfer_s / 10}
    medians = {
        Metric.latency: latency_s,
        Metric.throughput: 0.75 * latency_s,
        Metric.device: 0.5 * latency_s,
        Metric.end_to_end: latency_s + sum(moved.values()),
        **moved,
    }
    if device == "gpu":
        medians[Metric.end_to_end_pinned] = latency_s + sum(moved.values()) / 4
        medians |= {Metric.h2d_pinned: moved[Metric.h2d] / 4, Metric.d2h_pinned: moved[Metric.d2h] / 4}
    unit_s = noisy_timing(1.0, seed=seed).median_s
    return {m.value: noisy_timing(medians[m] / unit_s, seed=seed) for m in Metric if m in medians}


def make_record(device: str = "cpu", **changes: Any) -> Record:
    """A record with every block filled in; `changes` are fields of Record."""
    case = changes.pop("case", None) or make_case()
    timings = changes.pop("timings", None) or {
        "latency": noisy_timing(1e-4, seed=1),
        "throughput": make_timing([[8e-5] * 15] * 6, depth=8),
    }
    record = Record(
        schema_version=SCHEMA_VERSION,
        jaxaccel_version=__version__,
        started_at="2026-01-02T03:04:05+00:00",
        command="python -m jaxaccel.run device=both",
        case=case,
        case_id=case.case_id,
        arm_id=f"{case.case_id[:8]}-{device}",
        pair_id=f"pair-{case.case_id[:8]}",
        sweep_id="5eed",
        paired=True,
        arm=facts_of(device),
        status=Status.ok,
        timings=timings,
        compile=Compile(trace_s=0.25, lower_s=0.125, compile_s=0.5, cache="miss"),
        first_call_s=0.01,
        cost=Cost(flops=2e6, bytes=4e6),
        rates=Rates(
            metric="throughput",
            flops_per_s=2.5e10,
            bytes_per_s=5e10,
            of_compute_ceiling=0.05,
            of_memory_ceiling=0.5,
            limit=Limit.memory,
        ),
        accuracy=Accuracy(relative_error=1e-7, tolerance=1e-5, ok=True, reference="float64"),
        memory=Memory(
            predicted_bytes=4_000_000,
            capacity_bytes=16 << 30,
            arguments_bytes=4_000_000,
            outputs_bytes=4_096,
            temporaries_bytes=0,
            peak_bytes=4_004_096,
        ),
        transfers=TRANSFERS[device],
        device_time=DEVICE_TIME[device],
        energy=ENERGY.get(device),
        ceilings=CEILINGS[device],
        series={"loss": (2.5, 1.25, 0.625)},
        results={"held_out_accuracy": 0.95},
        dispatch_floor_s=FLOOR_S,
        host_load=HostLoad(others_cores=0.25, stolen_cores=0.0, pressure_percent=None),
        invariants={"answer": "passed", "rate": "skipped: no ceiling was measured"},
        spent_s=Spent(worker=2.0, data=0.5, compile=1.0, warmup=0.25, sampling=0.5, total=5.0),
        environment=CPU_ENVIRONMENT if device == "cpu" else GPU_ENVIRONMENT,
        warnings=(Flag(name="noisy", metric="latency", message="the middle half spans 12% of the median"),),
        absent={} if device in ENERGY else {"energy": "no meter here"},
    )
    return replace(record, **changes)


def make_failed(device: str = "gpu", *, message: str = "no GPU that JAX supports", **changes: Any) -> Record:
    """A record that has nothing but the reason why."""
    bare = {
        "timings": {},
        "compile": None,
        "first_call_s": None,
        "cost": None,
        "rates": None,
        "accuracy": None,
        "memory": None,
        "transfers": None,
        "device_time": None,
        "energy": None,
        "ceilings": None,
        "series": {},
        "results": {},
        "dispatch_floor_s": {},
        "host_load": None,
        "invariants": {},
        "spent_s": Spent(),
        "environment": {},
        "warnings": (),
        "absent": {"timings": "failed: see error"},
        "arm": ArmFacts(requested=device),
        "status": Status.failed,
        "error": Problem(type="NoDevice", message=message, hint='pip install "jaxaccel[cuda]"'),
    }
    return replace(make_record(device, case=changes.pop("case", None)), **(bare | changes))

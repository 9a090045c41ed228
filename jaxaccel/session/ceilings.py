"""What a device can do: the best rates that jaxaccel's own workloads reach on it, measured when needed.

A memory ceiling belongs to a working set, for caches end somewhere; a compute ceiling to a dtype and a
precision. They hold for a device, its driver, the versions and the day, and are kept that long.
"""

import contextlib
import os
import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import psutil

from jaxaccel.analyze.differences import identity
from jaxaccel.analyze.roofline import near
from jaxaccel.records import Arm, Case, Ceiling, Ceilings, Metric, digest
from jaxaccel.records.messages import Close, Open, Opened, Started
from jaxaccel.records.redact.outlets import document
from jaxaccel.session.rounds import Asked, OpenArm, Sampled, Stop, sample, why

STOP = Stop(relative_ci=0.02, limit_s=0.15, max_rounds=8)
TRANSFER_STOP = Stop(relative_ci=0.005, limit_s=1.0, max_rounds=8)  # one takes long; the best round counts
# Working sets from inside a core's first cache to beyond all caches; above, nothing changes (H100: 3170 GB/s
# at 1 GiB, 3205 at 4 GiB). No wider apart, or a cache's best lies between two (H200: 5.1 TB/s at 16 MiB, 6.5
# at 32, 4.2 at 64; experiments/ceilings).
LADDER_BYTES = tuple(16 * 1024 * 2**step for step in range(17))
KINDS = {"read": 1, "copy": 2, "triad": 3}  # vectors that a call touches
ALIGNED = 64  # elements: a vector of odd length can't be read several elements at a time
MATMULS = {"cpu": (1024, 2048), "gpu": (4096, 8192)}
LONG_CALL_S = 0.05  # a larger product than one that takes this long tells no more
# Arrays and bytes of each. From pageable memory several are faster (see workloads.transfer), from pinned
# memory one: the larger, the less is in it of what a transfer costs once (experiments/ceilings: 53.0 GB/s as
# eight arrays, 54.2 as one).
TRANSFER_SHAPES = ((8, 128 << 20), (1, 2 << 30))
HOST_COPIES = 4  # of what travels, that the host has at a time: data, output, pinned data, what came back
TRANSFERS = (Metric.h2d, Metric.h2d_pinned, Metric.d2h, Metric.d2h_pinned)


@dataclass(frozen=True, kw_only=True)
class Page:
    """What is known of one device on one day. `failed`: by name of what was tried, why it gave nothing.

    `passing`: the same, where a quieter moment may give it: it is not tried again by this command.
    """

    measured_at: str
    ceilings: dict[str, Ceiling] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    passing: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Found:
    """Ceilings for one record, why some are missing, and the seconds that measuring them took."""

    ceilings: Ceilings
    absent: Mapping[str, str]
    spent_s: float


@dataclass(kw_only=True)
class Book:
    """Ceilings by device and day, in files of `folder` where there is one. `fresh`: forget what it holds."""

    folder: Path | None
    fresh: bool = False
    now: Callable[[], datetime] = lambda: datetime.now(UTC)
    host_free_bytes: Callable[[], int] = lambda: int(psutil.virtual_memory().available)
    _pages: dict[str, Page] = field(default_factory=dict)

    def ceilings(
        self, worker: Asked, started: Started, opened: Opened, case: Case, *, again: bool = False
    ) -> Found:
        """What holds for a case that was opened on a worker's device; what is not known yet is measured.

        With `again` all of it is: a ceiling is the best that was reached, and a noisy moment reaches less.
        """
        begin = time.monotonic()
        device = started.arm.requested
        known = digest([device, identity(started.environment, started.arm.flags)])
        name = f"{self.now():%Y-%m-%d}-{known}"
        page = self._page(name)
        lines = len(page.ceilings) + len(page.failed)
        bench = _Bench(worker, device, page, self.host_free_bytes, again=again)
        found = Ceilings(
            measured_at=page.measured_at,
            memory=bench.memory(opened.memory.working_set_bytes),
            compute=bench.compute(case.dtype, case.precision),
            # Of a CPU nothing travels.
            transfers=bench.transfers() if device == "gpu" and opened.transfers else {},
        )
        if again or len(page.ceilings) + len(page.failed) > lines:
            self._keep(name, page)
        return Found(ceilings=found, absent=bench.absent, spent_s=time.monotonic() - begin)

    def _page(self, name: str) -> Page:
        if name not in self._pages:
            new = Page(measured_at=self.now().isoformat(timespec="seconds"))
            self._pages[name] = (None if self.fresh else self._kept(name)) or new
        return self._pages[name]

    def _kept(self, name: str) -> Page | None:
        """What the file of this name holds; None where it is not there, or damaged: it can be had again."""
        if self.folder is None:
            return None
        try:
            return msgspec.json.decode(self._path(self.folder, name).read_bytes(), type=Page)
        except (OSError, UnicodeDecodeError, msgspec.DecodeError):
            return None

    def _keep(self, name: str, page: Page) -> None:
        """Write a page; where that can't be done, this command knows it all the same."""
        if self.folder is None:
            return
        path = self._path(self.folder, name)
        half = path.with_suffix(f".{os.getpid()}")
        with contextlib.suppress(OSError):
            path.parent.mkdir(parents=True, exist_ok=True)
            half.write_bytes(document(path.name, msgspec.json.encode(replace(page, passing={}))))
            half.replace(path)

    @staticmethod
    def _path(folder: Path, name: str) -> Path:
        return folder / f"{name}.json"


class _Bench:
    """Runs the workloads whose rates are ceilings, each once, and writes what they give onto a page.

    `absent`: of what was asked for and could not be had, the reason.
    """

    def __init__(
        self, worker: Asked, device: str, page: Page, host_free_bytes: Callable[[], int], *, again: bool
    ) -> None:
        self._worker, self._device, self._page = worker, device, page
        self._host_free_bytes = host_free_bytes
        self._renewed: set[str] | None = set() if again else None
        self.absent: dict[str, str] = {}

    def memory(self, working_set_bytes: int | None) -> Ceiling | None:
        """The best of read, copy and triad at the rungs of the ladder on either side of a working set."""
        place, best = "ceilings.memory", list[Ceiling]()
        if working_set_bytes is None:
            self.absent[place] = "the workload does not tell its working set"
            return None
        for rung in around(working_set_bytes):
            sizes = {kind: rung // (4 * vectors) // ALIGNED * ALIGNED for kind, vectors in KINDS.items()}
            cases = [_case("stream", size, kind=kind) for kind, size in sizes.items()]
            found = [ceiling for case in cases if (ceiling := self._ceiling(case, Metric.device, place))]
            best += sorted(found, key=_rate)[-1:]
        return self._told(place, near(best, working_set_bytes))

    def compute(self, dtype: str, precision: str) -> Ceiling | None:
        """The best of square matrix products, of which a second is tried only where the first was short."""
        place, found = "ceilings.compute", list[Ceiling]()
        for size in MATMULS[self._device]:
            case = _case("matmul", size, dtype=dtype, precision=precision)
            ceiling = self._ceiling(case, Metric.device, place)
            found += [ceiling] if ceiling else []
            if ceiling is None or 2.0 * size**3 / ceiling.rate_per_s > LONG_CALL_S:
                break
        return self._told(place, max(found, key=_rate, default=None))

    def transfers(self) -> Mapping[str, Ceiling]:
        """The best rates between host and device, in bytes a second, by metric."""
        found: dict[str, Ceiling] = {}
        free_bytes = self._host_free_bytes()
        cases = [
            _case("transfer", nbytes // 4, parts=parts)
            for parts, nbytes in TRANSFER_SHAPES
            if HOST_COPIES * parts * nbytes <= free_bytes
        ]
        for metric in TRANSFERS:
            place = f"ceilings.transfers.{metric}"
            if not cases:
                self.absent[place] = f"the host has {free_bytes / 1e9:.1f} GB free, too little to try it"
            tried = [self._ceiling(case, metric, place, TRANSFERS) for case in cases]
            best = max((ceiling for ceiling in tried if ceiling), key=_rate, default=None)
            if ceiling := self._told(place, best):
                found[metric.value] = ceiling
        return found

    def _told(self, place: str, ceiling: Ceiling | None) -> Ceiling | None:
        """A ceiling for a place in the record; what could not be had on the way matters only without one."""
        if ceiling:
            self.absent.pop(place, None)
        return ceiling

    def _ceiling(
        self, case: Case, metric: Metric, place: str, together: Sequence[Metric] = ()
    ) -> Ceiling | None:
        """What a case gives by a metric, from the page, or by running it for all metrics of `together`."""
        page, names = self._page, {m: f"{case} {m}" for m in together or (metric,)}
        known = {*page.ceilings, *page.failed, *page.passing}
        if self._renewed is not None:
            known = {*self._renewed, *page.failed}
        lacking = {m: name for m, name in names.items() if name not in known}
        if lacking and self._worker.alive:
            self._measure(case, lacking)
        if self._renewed is not None:
            self._renewed.update(lacking.values())
        name = names[metric]
        if name not in page.ceilings:
            reason = page.failed.get(name) or page.passing.get(name) or "the worker had ended before it"
            self.absent.setdefault(place, f"{name}: {reason}")  # the first: a worker may have died of it
        return page.ceilings.get(name)

    def _measure(self, case: Case, names: Mapping[Metric, str]) -> None:
        kind = case.workload.capitalize()
        arm = Arm(case=case, device=self._device, target=f"jaxaccel.workloads.{case.workload}:{kind}")
        key = f"ceiling-{case.case_id}"
        opened = self._worker.ask(Open(key=key, arm=arm, metrics=tuple(names)))
        if not isinstance(opened, Opened):
            self._page.failed.update(dict.fromkeys(names.values(), why(opened)))
            return
        for metric, name in names.items():
            if metric not in opened.metrics:
                self._page.failed[name] = opened.absent.get(f"timings.{metric}", "it is not offered")
                continue
            got = self._sample(key, metric, TRANSFER_STOP if metric in TRANSFERS else STOP)
            if got.medians:
                new = Ceiling(
                    rate_per_s=_amount(metric, opened, case) / self._best_s(metric, got),
                    workload=str(case),
                    working_set_bytes=opened.memory.working_set_bytes or 0,
                )
                self._page.ceilings[name] = max(new, self._page.ceilings.get(name, new), key=_rate)
            elif got.failure:
                self._page.failed[name] = why(got.failure)
            else:
                self._page.passing[name] = got.unavailable or "it gave no samples"
            if not self._worker.alive:
                return
        self._worker.ask(Close(key=key))

    def _best_s(self, metric: Metric, got: Sampled) -> float:
        """The best round; of a CPU's slope the middle one, for noise makes a difference too short as well."""
        by_slope = metric is Metric.device and self._device == "cpu"
        return float(np.median(got.medians)) if by_slope else min(got.medians)

    def _sample(self, key: str, metric: Metric, stop: Stop) -> Sampled:
        arms = {key: OpenArm(self._worker, key)}
        return sample(arms, metric, stop, pass_index=0, rng=random.Random(0))[key]


def around(working_set_bytes: int) -> list[int]:
    """The rungs of the ladder that enclose a working set: the last below it, the first above it."""
    below = [rung for rung in LADDER_BYTES if rung <= working_set_bytes][-1:]
    above = [rung for rung in LADDER_BYTES if rung > working_set_bytes][:1]
    return below + above


def _case(
    workload: str, size: int, *, dtype: str = "float32", precision: str = "highest", **params: Any
) -> Case:
    return Case(
        workload=workload, size=size, dtype=dtype, precision=precision, variant="direct", params=params
    )


def _amount(metric: Metric, opened: Opened, case: Case) -> float:
    """What a call does of that whose rate is wanted: bytes that travel, FLOPs, or bytes of memory."""
    if metric in TRANSFERS and opened.transfers:
        up = metric in (Metric.h2d, Metric.h2d_pinned)
        return opened.transfers.h2d_bytes if up else opened.transfers.d2h_bytes
    work = opened.cost.flops if case.workload == "matmul" else opened.cost.bytes
    return work or 0.0  # which our own workloads always know


def _rate(ceiling: Ceiling) -> float:
    return ceiling.rate_per_s

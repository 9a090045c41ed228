"""A computation without a device, and the arm that puts it on one."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Annotated, Any

import msgspec

from jaxaccel.records.values import Count, Name, Whole, Word, digest

DEVICES = ("cpu", "gpu")
BEST = "best"  # the variant of a case that takes, on each device, the fastest of its workload's variants
JAX = "jax"  # the framework of all records but those of jaxaccel.peers
# Parameters that name functions of a user's own, as package.module:function.
NAMES_OF_CODE = ("fn", "args", "reference")


class Metric(StrEnum):
    """What a timing measures; two of them are never mixed in one ratio, but where that is said.

    latency: one call, blocked on its whole output. throughput: calls queued, one block, time divided by
    their number. device: one call on the device itself, without the host's dispatch; on a CPU also without
    allocating memory, which a loop does once for all its calls. These three have their data resident.
    end_to_end: inputs start on the host, the output ends there. h2d, d2h: those inputs to the device, that
    output to the host. The host's memory is pageable, as NumPy's is, and newly allocated for what comes back;
    or it is pinned.
    """

    latency = "latency"
    throughput = "throughput"
    device = "device"
    end_to_end = "end_to_end"
    end_to_end_pinned = "end_to_end_pinned"
    h2d = "h2d"
    h2d_pinned = "h2d_pinned"
    d2h = "d2h"
    d2h_pinned = "d2h_pinned"


MetricName = Annotated[str, msgspec.Meta(pattern=f"^({'|'.join(Metric)})$(?!\\n)")]
RESIDENT = (Metric.latency, Metric.throughput, Metric.device)


@dataclass(frozen=True, kw_only=True)
class Case:
    """One computation at one size, without a device: what is the same on both sides of a pair."""

    workload: Word
    size: Count
    dtype: Word
    precision: Word
    variant: Word
    params: Mapping[Name, Any] = field(default_factory=dict)
    seed: Whole = 0

    @property
    def case_id(self) -> str:
        """Identifies the case: arms of one case pair, whichever command or machine measured them."""
        return digest(asdict(self))

    def __str__(self) -> str:
        return self._in_words(f" {self.size}")

    @property
    def family(self) -> str:
        """The case in words, but for its size."""
        return self._in_words("")

    @property
    def given(self) -> dict[str, Any]:
        """The parameters that have a value: not None, which leaves it to the workload, nor an empty list."""
        return {name: value for name, value in self.params.items() if value is not None and value != []}

    def _in_words(self, size: str) -> str:
        params = "".join(f" {name}={value}" for name, value in self.given.items())
        variant = "" if self.variant == "direct" else f" {self.variant}"
        return f"{self.workload}{variant}{size}{params} {self.dtype} {self.precision}"


@dataclass(frozen=True, kw_only=True)
class Arm:
    """A case on a device. `target` names the workload's class, for the worker to resolve.

    `files` are parameters that say where a file lies on this machine. The case has its contents' digest.
    chosen: what an earlier pass chose for variant=best: all passes are of one program. framework: who
    computes it, and how: see jaxaccel/peers/frameworks.py.
    """

    case: Case
    device: str
    target: str
    files: Mapping[str, str] = field(default_factory=dict)
    chosen: str | None = None
    framework: str = JAX

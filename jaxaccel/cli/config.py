"""What a command was asked to do, as frozen dataclasses that refuse what cannot be right.

Values arrive as Hydra composed them, in plain containers; unknown keys are refused here.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

from jaxaccel.analyze.crossover_config import CrossoverConfig
from jaxaccel.records import DEVICES, Arm, Case, Metric
from jaxaccel.records.checks import (
    DAY_S,
    MONTH_S,
    MOST_SIZE,
    require_positive,
    require_text,
    require_texts,
    require_whole,
)
from jaxaccel.records.precision import Dtype, Precision
from jaxaccel.records.reading import refused_case
from jaxaccel.wandb.config import WandbConfig

MOST_PASSES = 1_000
MOST_ROUNDS = 1_000_000
MOST_CORES = 1_000_000
MOST_SEED = 2**32 - 1  # that JAX tells apart


class CeilingsMode(StrEnum):
    """What a result is held against: this day's ceilings, ones measured anew, or none."""

    auto = "auto"
    fresh = "fresh"
    off = "off"


class ResumeChanged(StrEnum):
    """What becomes of a record to be resumed whose source was edited since: refused, or measured anew."""

    refuse = "refuse"
    restart = "restart"


@dataclass(frozen=True, kw_only=True)
class WorkloadConfig:
    """What to compute: `target` is the class, as `package.module:Name`; `params` are its own settings.

    `files` are those that say where a file lies here; what is in it identifies the case (see `contents`).
    """

    name: str
    target: str
    variant: str = "direct"
    params: Mapping[str, Any] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, key in (("name", "name"), ("target", "_target_"), ("variant", "variant")):
            require_text(f"workload.{key}", getattr(self, name))


@dataclass(frozen=True, kw_only=True)
class TimingConfig:
    """How surely to measure: see conf/timing/."""

    relative_ci: float
    limit_s: float
    passes: int
    max_rounds: int = 30
    energy_s: float = 0.0

    def __post_init__(self) -> None:
        energy_s = self.energy_s
        if isinstance(energy_s, bool) or not isinstance(energy_s, int | float) or not 0 <= energy_s < 600:
            raise ValueError(f"`timing.energy_s` must be seconds from 0 to below 600, got {energy_s!r}")
        require_positive("timing.relative_ci", self.relative_ci, 1)
        require_positive("timing.limit_s", self.limit_s, DAY_S)
        for name, most in (("max_rounds", MOST_ROUNDS), ("passes", MOST_PASSES)):
            require_whole(f"timing.{name}", getattr(self, name), most)


@dataclass(frozen=True, kw_only=True)
class PeersConfig:
    """Which frameworks jaxaccel.peers measures beside JAX, by name; None: all that there are of a device."""

    frameworks: Sequence[str] | None = None

    def __post_init__(self) -> None:
        if self.frameworks is not None:
            require_texts("peers.frameworks", self.frameworks, or_else=", or null")


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """One Hydra job: a case, the devices to measure it on, and how. flags: XLA's, by device."""

    workload: WorkloadConfig
    devices: tuple[str, ...]
    size: int
    dtype: Dtype
    precision: Precision
    seed: int
    timing: TimingConfig
    passes: int
    wandb: WandbConfig
    flags: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    metrics: tuple[Metric, ...] = tuple(Metric)
    ceilings: CeilingsMode = CeilingsMode.auto
    resume: Path | None = None
    resume_changed: ResumeChanged = ResumeChanged.refuse
    wait_s: float = 600.0
    crossover: CrossoverConfig | None = None
    peers: PeersConfig | None = None
    debug: bool = False
    cpu_cores: int | None = None

    def __post_init__(self) -> None:
        if self.cpu_cores is not None:
            require_whole("device.cpu_cores", self.cpu_cores, MOST_CORES)
        names = self.devices
        if not names or not set(names) <= set(DEVICES) or len(set(names)) < len(names):
            raise ValueError(f"`device.arms` must name {' or '.join(DEVICES)}, each once, got {list(names)}")
        require_whole("size", self.size, MOST_SIZE)
        require_whole("passes", self.passes, MOST_PASSES, allowed="a whole number of at least 1")
        require_positive("wait_s", self.wait_s, MONTH_S)
        require_whole("seed", self.seed, MOST_SEED, 0, "a whole number of at least 0")
        if problem := refused_case(self.case):
            raise ValueError(f"no record could hold this case: {problem}")

    @property
    def case(self) -> Case:
        """What is measured, without a device."""
        return Case(
            workload=self.workload.name,
            size=self.size,
            dtype=str(self.dtype),
            precision=str(self.precision),
            variant=self.workload.variant,
            params=dict(self.workload.params),
            seed=self.seed,
        )

    @property
    def arms(self) -> tuple[Arm, ...]:
        """The case on each device that was asked for."""
        return tuple(
            Arm(case=self.case, device=device, target=self.workload.target, files=self.workload.files)
            for device in self.devices
        )

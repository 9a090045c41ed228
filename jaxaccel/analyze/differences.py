"""In what two records of an arm differ besides their times: what must agree for a ratio to mean anything."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from jaxaccel.records import BEST, CODE_PACKAGES, MADE_BY_CODE, Record
from jaxaccel.records.source import source_digest

UNKNOWN, UNSET = "unknown", "not set"

# What of an environment's `gpu` says with what software it was driven; the rest is the machine.
GPU_VERSIONS = ("driver", "runtime")
# Neither: how much memory was free for JAX, and why there is no more to tell.
GPU_PASSING = ("jax_memory_limit_bytes", "nvml")
# What every process and every device of a machine have in common, from day to day. Cores are not: they may
# be fewer for one process. Images that were copied have one host_id on hardware that differs.
HOST = ("host_id", "machine", "cpu.model", "cpu.logical_total")
# Quantities that a driver rounds as it likes: 699.98 W one day, 700 W another.
ROUNDED = ("_bytes", "_hz", "_w")
ROUNDING = 0.01


class Aspect(StrEnum):
    """In what the two sides of a comparison may differ, besides their times.

    machine: host, CPU, GPU. versions: Python, packages, driver. precision: of matrix products. flags:
    settings of JAX and XLA; people compare these on purpose. variant: which one was the best. source: that of
    the user's code; people compare before with after an edit.
    """

    machine = "machine"
    versions = "versions"
    precision = "precision"
    flags = "flags"
    variant = "variant"
    source = "source"


@dataclass(frozen=True, kw_only=True)
class Difference:
    """Something that is not the same on both sides, as text; `unknown` where one does not tell."""

    aspect: Aspect
    name: str
    base: str
    new: str


def differences(new: Record, base: Record) -> list[Difference]:
    """In what two records of an arm differ, besides their times: machine, versions, precision and flags."""
    here, there = _facts(new), _facts(base)
    return [
        Difference(
            aspect=aspect,
            name=name,
            base=_told(there.get((aspect, name)), aspect),
            new=_told(here.get((aspect, name)), aspect),
        )
        for aspect, name in dict.fromkeys([*there, *here])
        if not _agree(name, here.get((aspect, name)), there.get((aspect, name)))
    ]


def one_machine(first: Record, second: Record) -> bool:
    """Whether nothing that both tell of their hosts differs: two commands on one machine are of one."""
    here, there = host_facts(first), host_facts(second)
    return all(here[name] == there[name] for name in here.keys() & there.keys())


def host_facts(record: Record) -> dict[str, Any]:
    """What a record tells of HOST; empty where it failed before anything was known."""
    known, cpu = record.environment, _group(record.environment, "cpu")
    values = {
        name: cpu.get(name.removeprefix("cpu.")) if name.startswith("cpu.") else known.get(name)
        for name in HOST
    }
    return {name: value for name, value in values.items() if value is not None}


def identity(environment: Mapping[str, Any], flags: Mapping[str, str]) -> dict[str, Any]:
    """What of an environment, and of the settings, makes an arm another arm; the same from day to day.

    Passing facts are left out, and what a driver rounds as it likes is rounded further. So is what is known
    once own code was imported: the source says it.
    """
    kept = {name: environment.get(name) for name in ("host_id", "machine", "python", "packages", "cpu")}
    if of_code := environment.get(CODE_PACKAGES):
        packages = _group(environment, "packages")
        kept["packages"] = {name: told for name, told in packages.items() if name not in of_code} or None
    gpu = {name: value for name, value in _group(environment, "gpu").items() if name not in GPU_PASSING}
    coarse = {name: float(f"{value:.2g}") if name.endswith(ROUNDED) else value for name, value in gpu.items()}
    settings = {name: told for name, told in flags.items() if not name.startswith(MADE_BY_CODE)}
    return kept | {"gpu": coarse or None, "flags": settings}


def other_source(cpu: Record, gpu: Record) -> str | None:
    """Why the two sides of a pair are not of one program, in words; None where nothing says so."""
    if cpu.code is None or gpu.code is None or cpu.code.digest == gpu.code.digest:
        return None
    return f"the source is {cpu.code.digest} on the CPU, and {gpu.code.digest} on the GPU"


def _facts(record: Record) -> dict[tuple[Aspect, str], Any]:
    """All that must be the same on both sides, or be told to differ."""
    known = record.environment
    gpu = {name: value for name, value in _group(known, "gpu").items() if name not in GPU_PASSING}
    machine = {name: known.get(name) for name in ("host_id", "machine")}
    machine |= {f"cpu.{name}": value for name, value in _group(known, "cpu").items()}
    machine |= {f"gpu.{name}": value for name, value in gpu.items() if name not in GPU_VERSIONS}
    versions = {"python": known.get("python"), **_group(known, "packages")}
    versions |= {f"gpu.{name}": value for name, value in gpu.items() if name in GPU_VERSIONS}
    groups = {
        Aspect.machine: machine,
        Aspect.versions: versions,
        Aspect.precision: {"precision": record.case.precision},
        Aspect.flags: dict(record.arm.flags),
        Aspect.variant: {"best": record.arm.variant} if record.case.variant == BEST else {},
        Aspect.source: {"digest": digest} if (digest := source_digest(record)) else {},
    }
    return {(aspect, name): value for aspect, group in groups.items() for name, value in group.items()}


def _group(environment: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = environment.get(name)
    return found if isinstance(found, Mapping) else {} if found is None else {name: found}


def _agree(name: str, here: Any, there: Any) -> bool:
    if isinstance(here, int | float) and isinstance(there, int | float):
        return math.isclose(here, there, rel_tol=ROUNDING if name.endswith(ROUNDED) else 1e-9)
    return bool(here == there)


def _told(value: Any, aspect: Aspect) -> str:
    if value is None:
        return UNSET if aspect is Aspect.flags else UNKNOWN
    return str(value)

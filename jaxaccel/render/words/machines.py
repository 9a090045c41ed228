"""Machines in words: what is known of each, which side is on which, and what versions differ."""

from collections.abc import Iterable, Sequence
from typing import Any

from jaxaccel.analyze.differences import UNKNOWN, Aspect, differences
from jaxaccel.records import Comparison, Record
from jaxaccel.render.words.names import cores

NUMERICAL = ("jax", "jaxlib")  # the versions that a speedup is of as much as it is of devices


def facts(record: Record) -> dict[str, Any]:
    """What a record tells of its machine and its software; None where it does not tell."""
    known = record.environment
    cpu, gpu, packages = (known.get(name) or {} for name in ("cpu", "gpu", "packages"))
    count = cores(record)
    return {
        "host_id": known.get("host_id"),
        "CPU": cpu.get("model"),
        "cores": None if count == "?" else count,
        "GPU": gpu.get("name") or gpu.get("kind"),
        "driver": gpu.get("driver"),
        "os": known.get("os"),
        "python": known.get("python"),
        **{name: packages.get(name) for name in NUMERICAL},
    }


def letters(comparisons: Iterable[Comparison]) -> list[str]:
    """The machines of these comparisons."""
    found = (letter for c in comparisons for letter in (c.cpu_machine, c.gpu_machine) if letter)
    return sorted(dict.fromkeys(found), key=lambda letter: (letter[1:].zfill(3), letter))


def title(comparison: Comparison) -> str:
    """Where its sides were measured: two machines: CPU on A, GPU on B."""
    cpu, gpu = comparison.cpu_machine, comparison.gpu_machine
    if cpu and gpu and cpu != gpu:
        return f"two machines: CPU on {cpu}, GPU on {gpu}"
    return f"machine {cpu or gpu}"


def blocks(comparisons: Sequence[Comparison]) -> list[tuple[str | None, list[Comparison]]]:
    """Comparisons of the same machines together, under a title; under none where all are of one machine."""
    if len(letters(comparisons)) < 2:
        return [(None, list(comparisons))]
    found: dict[str | None, list[Comparison]] = {}
    for comparison in comparisons:
        found.setdefault(title(comparison), []).append(comparison)
    return list(found.items())


def versions(comparison: Comparison) -> str | None:
    """In which versions of JAX its sides differ, in words: jax 0.11.1 for the CPU, 0.11.2 for the GPU."""
    if comparison.cpu is None or comparison.gpu is None:
        return None
    names: dict[tuple[str, str], list[str]] = {}
    for found in differences(comparison.gpu, comparison.cpu):
        numerical = found.aspect is Aspect.versions and found.name in NUMERICAL
        if numerical and UNKNOWN not in (found.base, found.new):
            names.setdefault((found.base, found.new), []).append(found.name)
    sides = [
        f"the {device}{f' (machine {letter})' if comparison.two_machines and letter else ''}"
        for device, letter in (("CPU", comparison.cpu_machine), ("GPU", comparison.gpu_machine))
    ]
    words = [
        f"{' and '.join(same)} {cpu} for {sides[0]}, {gpu} for {sides[1]}"
        for (cpu, gpu), same in names.items()
    ]
    return "; ".join(words) or None

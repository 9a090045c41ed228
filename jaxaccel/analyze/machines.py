"""Which records were made on one machine, and who meets whom where there are several machines.

A machine has a letter, in order of appearance: records tell machines apart, and name none.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from string import ascii_uppercase
from typing import Any

from jaxaccel.analyze.differences import host_facts, other_source
from jaxaccel.records import DEVICES, JAX, Record


@dataclass(frozen=True, kw_only=True)
class Placed:
    """A record, and the letter of the machine that it was made on."""

    machine: str
    record: Record


@dataclass(frozen=True, kw_only=True)
class Meeting:
    """The records of one case that are to be compared, either of which may be missing or failed.

    other_source: why a record of the other device is left out: it is of another program.
    """

    cpu: Record | None
    gpu: Record | None
    cpu_machine: str | None
    gpu_machine: str | None
    other_source: str | None = None


def latest(records: Iterable[Record]) -> dict[tuple[str, str], Record]:
    """The record that counts of each case_id and device: the latest ok one, or else the latest.

    Of two states of one measurement, as a resumed command that was killed leaves them, it is the fuller one.
    In order of appearance: an arm stands where its first record does.
    """
    arms: dict[tuple[str, str], Record] = {}
    for record in sorted(records, key=lambda record: record.started_at):
        known = arms.get((record.case_id, record.arm.requested))
        if known is None or ((record.ok or not known.ok) and not _less_of(record, known)):
            arms[record.case_id, record.arm.requested] = record
    return arms


def latest_by_framework(records: Iterable[Record]) -> dict[tuple[str, str, str], Record]:
    """The same of each case_id, device and framework: one framework's are never taken for another's."""
    of: dict[str, list[Record]] = {}
    for record in records:
        of.setdefault(record.arm.framework, []).append(record)
    return {(*arm, framework): record for framework, its in of.items() for arm, record in latest(its).items()}


def standing(records: Iterable[Record]) -> list[Placed]:
    """The records that count, of every arm on every machine: one machine's are never taken for another's."""
    records = list(records)
    letters = place(records)
    found = []
    for letter in dict.fromkeys(letters):
        ours = (record for record, its in zip(records, letters, strict=True) if its == letter)
        found += [Placed(machine=letter, record=record) for record in latest(ours).values()]
    return found


def place(records: Sequence[Record]) -> list[str]:
    """The letter of each record's machine: A for the first's.

    What failed before anything was known of its host stands with its command, or else with the first machine.
    """
    machines: list[dict[str, Any]] = []
    of_sweep: dict[str, int] = {}
    found: list[int | None] = []
    for record in records:
        facts = host_facts(record)
        index = _find(machines, facts) if facts else None
        if index is not None:
            machines[index] |= facts
            of_sweep.setdefault(record.sweep_id, index)
        found.append(index)
    return [
        _letter(of_sweep.get(record.sweep_id, 0) if index is None else index)
        for index, record in zip(found, records, strict=True)
    ]


def meetings(records: Iterable[Record]) -> Iterator[Meeting]:
    """Who is compared with whom, by case in order of appearance.

    Records of one machine meet each other first. One that was measured, and has no measured counterpart at
    home, meets those of every other machine: one comparison a pair of machines, nothing picked or averaged.
    What failed is in no comparison where its case has a whole pair. Records of other frameworks than JAX meet
    nobody here: see analyze/peers.
    """
    records = [record for record in records if record.arm.framework == JAX]
    cases: dict[str, dict[str, dict[str, Record]]] = {case_id: {} for case_id, _ in latest(records)}
    for placed in standing(records):
        case = cases[placed.record.case_id].setdefault(placed.machine, {})
        case[placed.record.arm.requested] = placed.record
    for machines in cases.values():
        for met in _meetings(machines):
            yield from _of_one_source(met)


def _of_one_source(met: Meeting) -> Iterator[Meeting]:
    """The meeting, or each side of it alone."""
    reason = other_source(met.cpu, met.gpu) if met.cpu and met.gpu else None
    if reason is None:
        yield met
        return
    yield replace(met, gpu=None, gpu_machine=None, other_source=reason)
    yield replace(met, cpu=None, cpu_machine=None, other_source=reason)


def _meetings(machines: Mapping[str, Mapping[str, Record]]) -> Iterator[Meeting]:
    """Those of one case, whose records are given by machine and device."""
    measured = {
        device: [machine for machine, arms in machines.items() if (record := arms.get(device)) and record.ok]
        for device in DEVICES
    }
    home = [machine for machine in machines if all(machine in measured[device] for device in DEVICES)]
    pairs = [(machine, machine) for machine in home]
    pairs += [
        (cpu, gpu)
        for cpu in measured["cpu"]
        for gpu in measured["gpu"]
        if cpu not in home or gpu not in home
        if cpu != gpu
    ]
    for cpu, gpu in pairs:
        yield Meeting(cpu=machines[cpu]["cpu"], gpu=machines[gpu]["gpu"], cpu_machine=cpu, gpu_machine=gpu)
    if pairs:
        return  # where one device has been measured, it has met all that was measured of the other
    for machine, arms in machines.items():
        yield Meeting(
            cpu=arms.get("cpu"),
            gpu=arms.get("gpu"),
            cpu_machine=machine if "cpu" in arms else None,
            gpu_machine=machine if "gpu" in arms else None,
        )


def _find(machines: list[dict[str, Any]], facts: Mapping[str, Any]) -> int:
    """The first machine that nothing here speaks against, or a new one."""
    for index, known in enumerate(machines):
        if all(known[name] == facts[name] for name in known.keys() & facts.keys()):
            return index
    machines.append({})
    return len(machines) - 1


def _letter(index: int) -> str:
    round_, place_ = divmod(index, len(ascii_uppercase))
    return f"{ascii_uppercase[place_]}{round_ or ''}"


def _less_of(record: Record, known: Record) -> bool:
    """Whether both are of one measurement, of which `known` has seen more."""
    samples, known_samples = (sum(t.n for t in side.timings.values()) for side in (record, known))
    return record.started_at == known.started_at and samples < known_samples

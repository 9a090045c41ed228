"""What cases and devices are called, wherever people read them."""

from collections.abc import Sequence
from dataclasses import replace

from jaxaccel.records import BEST, Case, Record


def case_name(case: Case) -> str:
    """Workload and size, and what of the rest is not the default."""
    shown = [value for value in (case.variant, case.dtype) if value not in ("direct", "float32")]
    shown += [f"precision={case.precision}"] if case.precision != "highest" else []
    return " ".join([workload_name(case), str(case.size), *shown])


def workload_name(case: Case) -> str:
    """The workload; of one that is a user's own, the name of its function, or what identifies its file."""
    if isinstance(named := case.params.get("fn"), str):
        return f"{case.workload}:{named.rpartition(':')[2]}"
    if isinstance(content := case.params.get("sha256"), str):
        return f"{case.workload}:{content[:6]}"
    return case.workload


def told_apart(case: Case, cases: Sequence[Case]) -> str:
    """The case's name, with what else it takes to tell it from the others."""
    name = case_name(case)
    alike = (other for other in cases if (other.size, other.workload) == (case.size, case.workload))
    others = [other for other in alike if case_name(other) == name]
    if any(other.params != case.params for other in others):
        name += parameters(case, others)
    if any(other.seed != case.seed for other in others):
        name += f" seed={case.seed}"
    return name


def parameters(case: Case, others: Sequence[Case]) -> str:
    """All its parameters, a blank before each; one without a value only where one of the others has one."""
    shown = set(case.given).union(*(other.given for other in others))
    return "".join(f" {key}={value}" for key, value in case.params.items() if key in shown)


def family_name(case: Case, machines: str | None = None, over: str = "size") -> str:
    """The case but for its size and for the parameter `over`; `machines`, if there are several, say whose."""
    if over != "size":
        case = replace(case, params={name: value for name, value in case.params.items() if name != over})
    seed = f" seed={case.seed}" if case.seed else ""
    both = ", best against best" if case.variant == BEST else ""
    return case.family + seed + both + (f" ({machines})" if machines else "")


def device_name(record: Record) -> str:
    """The device that ran, with the cores that a CPU had."""
    kind = record.arm.kind or "–"
    counted = f", {in_cores(cores(record))}" if record.arm.requested == "cpu" else ""
    return f"{record.arm.requested}: {kind}{counted}"


def cores(record: Record) -> int | str:
    """How many cores the record's process could use; ? where it does not say."""
    return record.environment.get("cpu", {}).get("cores", "?")  # type: ignore[no-any-return]


def in_cores(count: int | str) -> str:
    """So many cores, in words."""
    return f"{count} core{'' if count in (1, '1') else 's'}"

"""Compares the source of records: in a command, and in what it resumes, a function has one source."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from jaxaccel.records import CODE_PACKAGES, NAMES_OF_CODE, Case, Record
from jaxaccel.records.messages import Opened

Named = tuple[str, ...]  # the functions of a case, by name


@dataclass(frozen=True, kw_only=True)
class Source:
    """The digest of a user's source, and the versions of the packages that it imports."""

    digest: str
    packages: Mapping[str, str]


def named(case: Case) -> Named:
    """The names of the functions that a case uses. Functions of one name must have one source."""
    return tuple(str(case.params.get(name)) for name in NAMES_OF_CODE)


def source_of(of: Record | Opened) -> Source | None:
    """The source of a record or of an opened arm; None where the workload has no code of the user's."""
    if of.code is None:
        return None
    packages = of.packages if isinstance(of, Opened) else packages_of_code(of)
    return Source(digest=of.code.digest, packages=dict(packages))


def packages_of_code(record: Record) -> dict[str, str]:
    """Versions of the packages that the record's own code imports, without those that every record has."""
    known = record.environment.get("packages", {})
    return {name: known[name] for name in record.environment.get(CODE_PACKAGES, ()) if name in known}


def edited(before: Source, now: Source) -> str:
    """How one source differs from an earlier one, with both digests or versions."""
    if before.digest != now.digest:
        return f"its source was {before.digest}, and is {now.digest}"
    names = sorted(
        name
        for name in before.packages.keys() | now.packages.keys()
        if before.packages.get(name) != now.packages.get(name)
    )
    return ", ".join(
        f"{name} was {before.packages.get(name, 'not there')}, and is {now.packages.get(name, 'not there')}"
        for name in names
    )


def resumed_after_edit(record: Record, now: Source) -> str:
    """Why a record can't be resumed, and what to do, in one line."""
    before = source_of(record)
    what = edited(before, now) if before else ""
    return (
        f"`resume`: {record.case} on the {record.arm.requested} is no longer the program that was measured: "
        f"{what}; measure into a new folder, or add resume_changed=restart, which measures again and keeps "
        "the old records"
    )


def of_other_source(records: Iterable[Record], now: Record) -> Sequence[Record]:
    """The records of the same functions whose source is another."""
    source = source_of(now)
    return [
        record
        for record in records
        if source and named(record.case) == named(now.case) and source_of(record) not in (None, source)
    ]

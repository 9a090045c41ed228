"""Which source a record is of."""

from dataclasses import replace

from jaxaccel.records import Case, Record

OLD_SOURCE = "source"  # the parameter of earlier cases that had the digest of the function's file


def source_digest(record: Record) -> str | None:
    """What identifies the user's source; of records made before there was `code`, that of their case."""
    return record.code.digest if record.code else record.case.params.get(OLD_SOURCE)


def without_source(case: Case) -> Case:
    """The case as it is now, whenever it was measured."""
    return replace(case, params={name: told for name, told in case.params.items() if name != OLD_SOURCE})

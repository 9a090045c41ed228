"""What an article claims, and the numbers that records hold against it: each by a named function.

A figure names its function, the records (or the published file, or other figures) that it is of, and what of
them. Where these are not there yet, the figure is pending: it has no number.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from enum import StrEnum
from inspect import Parameter, signature
from typing import Any

from jaxaccel.records import Case, Record
from studies import quantities
from studies.quantities import Quantity


class Judgement(StrEnum):
    """What became of a claim. undecided: what was measured does not decide it."""

    true = "true"
    false = "false"
    depends = "depends"
    undecided = "undecided"
    pending = "not measured yet"


# By the key of a figure that says what its function is of.
SOURCES = ("records", "file", "of")
VALUES: Mapping[str, Callable[..., Quantity]] = {
    value.__name__: value
    for value in (
        quantities.speedup,
        quantities.crossing,
        quantities.wins,
        quantities.losses_apart,
        quantities.time,
        quantities.feed_gain,
        quantities.transfer_rate,
        quantities.memory_rate,
        quantities.compute_rate,
        quantities.ceiling_share,
        quantities.capacity,
        quantities.joules,
        quantities.error,
        quantities.result,
        quantities.spent,
        quantities.kernel_share,
        quantities.right_choices,
        quantities.number,
        quantities.count,
        quantities.text,
        quantities.factor,
        quantities.product,
    )
}


@dataclass(frozen=True, kw_only=True)
class Figure:
    """A number of a claim. value: the name of its function, of VALUES; settings: what else that takes.

    One of `records` (studies), `file` (JSON, below experiments/) and `of` (earlier figures of the claim) says
    what it is of; none where the settings do. shown: false of one that only others are made of.
    """

    name: str
    value: str
    records: tuple[str, ...] = ()
    file: str | None = None
    of: tuple[str, ...] = ()
    select: Mapping[str, Any] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)
    shown: bool = True

    def __post_init__(self) -> None:
        if self.value not in VALUES:
            raise ValueError(f"`value` of {self.name} must be one of {', '.join(VALUES)}, got {self.value!r}")
        parameters = signature(VALUES[self.value]).parameters.values()
        source = next((one.name for one in parameters if one.kind is not Parameter.KEYWORD_ONLY), None)
        given = {"records": self.records, "file": self.file, "of": self.of}
        if [name for name in SOURCES if given[name]] != ([source] if source else []):
            raise ValueError(
                f"{self.name}: {self.value} takes `{source}`" if source else f"{self.name}: no source"
            )
        if self.select and not self.records:
            raise ValueError(f"{self.name}: `select` is for `records`")
        known = {one.name: one.default for one in parameters if one.kind is Parameter.KEYWORD_ONLY}
        if unknown := [name for name in self.settings if name not in known]:
            raise ValueError(
                f"{self.name}: {self.value} takes {', '.join(known) or 'no settings'}, got `{unknown[0]}`"
            )
        needed = [name for name, default in known.items() if default is Parameter.empty]
        if missing := [name for name in needed if name not in self.settings]:
            raise ValueError(f"{self.name}: {self.value} needs `{missing[0]}`")


@dataclass(frozen=True, kw_only=True)
class Claim:
    """What a section claims, in our words, and what became of it.

    depends_on: what, of a verdict that depends. why: the argument, in which {name} stands for a figure.
    study: those that measure it, or will.
    """

    section: str
    claim: str
    verdict: Judgement
    why: str
    study: str
    depends_on: str | None = None
    figures: tuple[Figure, ...] = ()

    def __post_init__(self) -> None:
        if (self.verdict is Judgement.depends) != (self.depends_on is not None):
            raise ValueError(f"{self.title}: `depends_on` is for the verdict `depends`, which must have it")
        names = [figure.name for figure in self.figures]
        if len({*names}) < len(names):
            raise ValueError(f"{self.title}: figures must have names of their own, got {', '.join(names)}")

    @property
    def title(self) -> str:
        """Which one it is."""
        return f"{self.section}: {self.claim}"


@dataclass(frozen=True, kw_only=True)
class Published:
    """What there is to read: records by study, files by name. told: studies that have a page of their own."""

    records: Mapping[str, Sequence[Record]]
    files: Mapping[str, Any]
    told: frozenset[str] = frozenset()


def read_claim(raw: Mapping[str, Any], select: Mapping[str, Any]) -> Claim:
    """A claim as a file has it; `select` holds for each figure of records that does not say otherwise.

    **Raises** ValueError for what no claim has, or of another kind.
    """
    known = {entry.name for entry in fields(Claim)}
    if unknown := [name for name in raw if name not in known]:
        raise ValueError(f"a claim has {', '.join(sorted(known))}, got `{unknown[0]}`")
    if missing := [name for name in ("section", "claim", "verdict", "why", "study") if name not in raw]:
        raise ValueError(f"a claim must have `{missing[0]}`: {raw!r}")
    figures = tuple(_read_figure(figure, select) for figure in raw.get("figures", ()))
    section = str(raw["section"])  # YAML reads 2.2 as a number, and true as no text
    try:
        verdict = Judgement(str(raw["verdict"]).lower())
        return Claim(**{**raw, "section": section, "verdict": verdict, "figures": figures})
    except ValueError as error:
        raise ValueError(f"{section}: {error}") from error


def _read_figure(raw: Mapping[str, Any], select: Mapping[str, Any]) -> Figure:
    ours = {entry.name for entry in fields(Figure)} - {"settings"}
    given = {name: value for name, value in raw.items() if name in ours}
    for name in ("records", "of"):
        if name in given:
            given[name] = (given[name],) if isinstance(given[name], str) else tuple(given[name])
    if given.get("records"):
        given["select"] = {**select, **given.get("select", {})}
    return Figure(**given, settings={name: value for name, value in raw.items() if name not in ours})


def quantities_of(claim: Claim, published: Published) -> dict[str, Quantity | None]:
    """The number of each figure, by its name; None of one whose study has not been measured.

    **Raises** ValueError, naming claim and figure, where the records have no such number, and where the
    verdict is not one that the figures allow: without any number there is none, and with one there is.
    """
    found: dict[str, Quantity | None] = {}
    for figure in claim.figures:
        try:
            found[figure.name] = _quantity(figure, published, found)
        except ValueError as error:
            raise ValueError(f"{claim.section}, {figure.name}: {error}") from error
    measured = [name for name, quantity in found.items() if quantity]
    if measured and claim.verdict is Judgement.pending:
        raise ValueError(f"{claim.title}: `verdict` is needed now that there is {measured[0]}")
    if not measured and claim.verdict is not Judgement.pending:
        raise ValueError(f"{claim.title}: `verdict` must be {Judgement.pending}, for no figure is there")
    return found


def _quantity(figure: Figure, published: Published, before: Mapping[str, Quantity | None]) -> Quantity | None:
    value = VALUES[figure.value]
    if figure.records:
        if any(study not in published.records for study in figure.records):
            return None
        everything = [record for study in figure.records for record in published.records[study]]
        return value(selected(everything, figure.select), **figure.settings)
    if figure.file:
        return (
            value(published.files[figure.file], **figure.settings) if figure.file in published.files else None
        )
    if unknown := [name for name in figure.of if name not in before]:
        raise ValueError(f"`of` must name earlier figures of the claim, got {unknown[0]!r}")
    parts = [before[name] for name in figure.of]
    if figure.of:
        return None if None in parts else value(parts, **figure.settings)
    return value(**figure.settings)


def selected(records: Sequence[Record], select: Mapping[str, Any]) -> list[Record]:
    """The records that have what is asked for: of the case, its parameters, the flags or the device.

    A list asks for one of several, None for records without that key.

    **Raises** ValueError where none is left.
    """
    found = [record for record in records if all(_has(record, name, want) for name, want in select.items())]
    if not found:
        words = " ".join(f"{name}={want}" for name, want in select.items())
        raise ValueError(f"no record has {words}")
    return found


def _has(record: Record, name: str, want: Any) -> bool:
    facts = {entry.name: getattr(record.case, entry.name) for entry in fields(Case) if entry.name != "params"}
    facts |= {**record.arm.flags, **record.case.params, "device": record.arm.requested}
    return facts.get(name) in (want if isinstance(want, list) else [want])

"""Which cases differ in one number alone, and in which: in size, or in a parameter of the workload."""

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import replace

from jaxaccel.records import Case

SIZE = "size"
FEWEST = 3  # values of a parameter that make a range: two may be two kinds of case


def value_at(case: Case, over: str) -> int:
    """How large a case is, by its size or by that parameter."""
    return case.size if over == SIZE else int(case.params[over])


def alike(case: Case, over: str) -> str:
    """What cases share that differ in this number alone."""
    if over == SIZE:
        return replace(case, size=1).case_id
    params = {name: value for name, value in case.params.items() if name != over}
    return replace(case, params=params).case_id


def ranges(cases: Iterable[Case]) -> dict[str, str]:
    """In what each case differs from the others of its kind, by its case_id.

    That is its size, unless there is one size of the kind only, and FEWEST values of a whole number that is
    a parameter, all else being equal.
    """
    cases = list({case.case_id: case for case in cases}.values())
    sizes = Counter(alike(case, SIZE) for case in cases)
    kinds = defaultdict[tuple[str, str], list[str]](list)
    for case in cases:
        if sizes[alike(case, SIZE)] == 1:
            for name, value in case.params.items():
                if isinstance(value, int) and not isinstance(value, bool):
                    kinds[name, alike(case, name)].append(case.case_id)
    found = {case.case_id: SIZE for case in cases}
    for (name, _), members in sorted(kinds.items(), key=lambda kind: len(kind[1])):
        if len(members) >= FEWEST:
            found |= dict.fromkeys(members, name)
    return found

"""Reads the optimised program that XLA will run: is the work still in it, and where?"""

import re

_HEADER = re.compile(r"^(?:ENTRY )?%?([\w.\-]+) .*\{$")
_CALLED = re.compile(r"(?:calls|to_apply|body|condition|branch_computations)=\{?((?:%?[\w.\-]+(?:, )?)+)")
_BODY = re.compile(r"\bbody=%?([\w.\-]+)")
_METADATA = re.compile(r', metadata=\{(?:[^{}"]|"(?:[^"\\]|\\.)*")*\}')
_NAME = re.compile(r"%[\w.\-]+")
_OPERATION = re.compile(r"(?<=\s)([a-z][a-z\-]*)\(")
# One whose result has more than one element.
_ON_ARRAY = re.compile(r" = \w+\[(?=[\d,]*(?:[2-9]|\d\d))[\d,]+\]\S* ([a-z][a-z\-]*)\(")


def operations(program: str, *, inside_loops: bool = False) -> set[str]:
    """Names of the operations of an HLO module's text; only of its loops' bodies if `inside_loops`.

    XLA moves what does not change out of a loop: the body that is left then repeats nothing.
    """
    computations = _computations(program)
    return _names(computations, _loops(program, computations) if inside_loops else set(computations))


def array_operations(program: str, *, inside_loops: bool = False) -> set[str]:
    """Those of `operations` whose results have more than one element."""
    computations = _computations(program)
    wanted = _loops(program, computations) if inside_loops else set(computations)
    return _names(computations, wanted, _ON_ARRAY)


def operations_outside(program: str) -> set[str]:
    """Names of the operations that are in no loop's body, of some of which there may be others within."""
    computations = _computations(program)
    return _names(computations, set(computations) - _loops(program, computations))


def reads_parameters(program: str) -> bool:
    """Whether an HLO module's result depends on any of its parameters."""
    entry = program[program.index("\nENTRY ") :].splitlines()[2:]
    parameters = {line.split()[0] for line in entry if " parameter(" in line}
    used = {name for line in entry if " parameter(" not in line for name in _NAME.findall(line)[1:]}
    # A parameter that is the whole result is the root itself.
    return bool(parameters & used) or any("ROOT" in line and " parameter(" in line for line in entry)


def outline(program: str) -> list[str]:
    """An HLO module's operations with their shapes and settings, in no order and without names.

    Two that have one outline do the same work: names come from Python, and what can be done in any order is
    ordered by them.
    """
    lines = (line for body in _computations(program).values() for line in body.splitlines())
    return sorted(_NAME.sub("%", _METADATA.sub("", line)) for line in lines)


def _loops(program: str, computations: dict[str, str]) -> set[str]:
    """The computations that are bodies of loops, and all that these call."""
    found = set(_BODY.findall(program))
    while True:
        called = {
            name.lstrip("%")
            for computation in found
            for names in _CALLED.findall(computations.get(computation, ""))
            for name in names.split(", ")
        }
        if called <= found:
            return found
        found |= called


def _names(computations: dict[str, str], wanted: set[str], pattern: re.Pattern[str] = _OPERATION) -> set[str]:
    return {name for computation in wanted for name in pattern.findall(computations.get(computation, ""))}


def _computations(program: str) -> dict[str, str]:
    found: dict[str, str] = {}
    name, lines = None, list[str]()
    for line in program.splitlines():
        header = _HEADER.match(line)
        if header and not line.startswith(" "):
            name, lines = header.group(1), []
        elif line.startswith("}") and name:
            found[name] = "\n".join(lines)
            name = None
        elif name:
            lines.append(line)
    return found

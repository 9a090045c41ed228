"""Reads the optimised program that XLA will run: is the work still in it, and where?"""

import re

_HEADER = re.compile(r"^(?:ENTRY )?%?([\w.\-]+) .*\{$")
_CALLED = re.compile(r"(?:calls|to_apply|body|condition|branch_computations)=\{?((?:%?[\w.\-]+(?:, )?)+)")
_BODY = re.compile(r"\bbody=%?([\w.\-]+)")
_OPERATION = re.compile(r"(?<=\s)([a-z][a-z\-]*)\(")


def operations(program: str, *, inside_loops: bool = False) -> set[str]:
    """Names of the operations of an HLO module's text; only of its loops' bodies if `inside_loops`.

    XLA moves what does not change out of a loop: the body that is left then repeats nothing.
    """
    computations = _computations(program)
    if not inside_loops:
        wanted = set(computations)
    else:
        wanted = set(_BODY.findall(program))
        while True:  # and all that the bodies call
            called = {
                name.lstrip("%")
                for computation in wanted
                for names in _CALLED.findall(computations.get(computation, ""))
                for name in names.split(", ")
            }
            if called <= wanted:
                break
            wanted |= called
    return {name for computation in wanted for name in _OPERATION.findall(computations.get(computation, ""))}


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

"""What values in records may be, and digests of them.

msgspec checks these where a record is read, and record.schema.json has them; what holds between several
values is in records/reading.py. They are wide: they keep out what no clock and no machine can have given.
"""

import hashlib
import json
from collections.abc import Mapping
from typing import Annotated, Any

from msgspec import Meta

# $ matches before a last end of line, too, in Python's patterns: hence (?!\n).

Name = Annotated[str, Meta(pattern=r"^[A-Za-z_][A-Za-z0-9_.-]{0,99}$(?!\n)")]
# Of a case: it stands in names of files and runs.
Word = Annotated[str, Meta(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.:+-]{0,99}$(?!\n)")]
Id = Annotated[str, Meta(pattern=r"^[A-Za-z0-9_-]{1,64}$(?!\n)")]
When = Annotated[
    str, Meta(pattern=r"^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:.]{5,20}(Z|[+-][0-9]{2}:[0-9]{2})?$(?!\n)")
]
Device = Annotated[str, Meta(pattern=r"^(cpu|gpu)$(?!\n)")]
Version = Annotated[str, Meta(pattern=r"^[A-Za-z0-9_.+!-]{1,64}$(?!\n)")]
Time = Annotated[float, Meta(ge=1e-12, le=1e9)]  # in seconds: nothing is over within a picosecond
Seconds = Annotated[float, Meta(ge=-1e9, le=1e9)]  # a sample may be the difference of two times
Spread = Annotated[float, Meta(ge=0, le=1e9)]  # in seconds
Bound = Annotated[float, Meta(ge=0, le=1e18)]  # in seconds: passes that disagree make wide intervals
Whole = Annotated[int, Meta(ge=0, le=2**62)]  # as JSON has no larger ones that everybody reads
Count = Annotated[int, Meta(ge=1, le=2**62)]
Amount = Annotated[float, Meta(ge=0, le=1e30)]  # of FLOPs, bytes, joules
Rate = Annotated[float, Meta(ge=1e-12, le=1e30)]
Number = Annotated[float, Meta(ge=-1e30, le=1e30)]
Error = Annotated[float, Meta(ge=0, le=1e300)]


def digest(value: Any) -> str:
    """Twelve hexadecimal digits that identify a JSON-like value, whatever the order of its keys."""
    canonical = json.dumps(value, sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.sha256(canonical.encode()).hexdigest()[:12]


def plain(value: Any) -> Any:
    """A value with Python's own numbers and truth values in place of NumPy's, JAX's or torch's.

    An array without dimensions is a number, any other a tuple; so too inside of tuples, lists and mappings.
    """
    if hasattr(value, "ndim") and hasattr(value, "tolist"):
        value = value.tolist()
        return tuple(value) if isinstance(value, list) else value
    if type(value) in (tuple, list):
        return type(value)(map(plain, value))
    if isinstance(value, Mapping):
        return {name: plain(entry) for name, entry in value.items()}
    return value


class PlainValues:
    """A dataclass whose fields come from a workload's code: they are made `plain`.

    A NumPy `False` is not `False`, and a NumPy number can't be written as JSON.
    """

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            object.__setattr__(self, name, plain(value))

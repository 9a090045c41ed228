"""Own code that tells all secrets that it can get hold of, in each way in which code can fail."""

import json
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax.numpy as jnp

from jaxaccel.workloads.matvec import Matvec


def secrets() -> dict[str, str]:
    """Those that the test has put into a file, for the source is to hold none."""
    found: dict[str, str] = json.loads(Path(os.environ["PLANTED"]).read_text())
    return found


def told() -> str:
    """All of them, as careless programs print them."""
    found = secrets()
    os.environ["LATE_TOKEN"] = found["set by the code"]  # as load_dotenv() does
    return "\n".join(
        [
            *(f"{name}: <{text}> {text!r} {json.dumps(text)}" for name, text in found.items()),
            f"GET https://me:{found['short']}@host/x?token={found['long']}",
            f"Authorization: Bearer {found['bearer']}",
            f"wandb: API key {found['wandb']}",
        ]
    )


def prints() -> None:
    """On both streams, in Python's way and past it."""
    print(told(), flush=True)
    print(told(), file=sys.stderr, flush=True)
    os.write(2, told().encode())


def works(x: Any) -> Any:
    """Prints, and is measured."""
    prints()
    return x * 2


def raises(x: Any) -> Any:
    """An exception, whose first line has them, and whose traceback has one that stands in the source."""
    return fail(x, user="me", password="in-the-source-1")


def fail(x: Any, **_: str) -> Any:
    """Raises."""
    flat = " ".join(told().split("\n"))
    raise ValueError(f"{flat}\n{told()}")


def aborts(x: Any) -> Any:
    """The end of the process; what is shown of its last words begins within a secret."""
    prints()
    os.write(2, f"\n{secrets()['long']}{'.' * 3990}\n".encode())
    os.abort()


def make_args(size: int, key: Any, dtype: Any) -> Sequence[Any]:
    """One array."""
    return (jnp.ones(size, dtype),)


@dataclass(frozen=True, kw_only=True)
class Hangs(Matvec):
    """Prints, and never comes to an answer."""

    def inputs(self, seed: int) -> Any:
        """Does not return."""
        prints()
        time.sleep(600)

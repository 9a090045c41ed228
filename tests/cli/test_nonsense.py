"""Generated nonsense on the command line ends in words, never in a traceback."""

import copy
import random
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, seed, settings
from hypothesis import strategies as st

from jaxaccel.cli.compose import compose
from jaxaccel.cli.overrides import check_arguments
from jaxaccel.cli.parse import parse
from jaxaccel.records.errors import BadInputError

COMPOSED: dict[str, Any] = {
    "workload": {"name": "dot", "_target_": "jaxaccel.workloads.dot:Dot", "variant": "direct"},
    "device": {"name": "cpu", "arms": ["cpu"], "flags": {"cpu": None}, "cpu_cores": None},
    "timing": {"relative_ci": 0.01, "limit_s": 1, "passes": 1, "max_rounds": 30, "energy_s": 0},
    "wandb": {"mode": "disabled", "project": "jaxaccel", "entity": None},
    "size": 16,
    "dtype": "float32",
    "precision": "highest",
    "seed": 0,
    "passes": 1,
    "metrics": "all",
    "ceilings": "off",
    "resume": None,
    "resume_changed": "refuse",
    "wait_s": 1,
    "crossover": None,
    "peers": None,
    "debug": False,
}
PLACES = [(name,) for name in COMPOSED]
PLACES += [(group, key) for group, inner in COMPOSED.items() if isinstance(inner, dict) for key in inner]
KEYS = [".".join(place) for place in PLACES]
KEYS += ["hydra", "hydra.run.dir", "hydra.sweep.dir", "hydra.sweep.subdir", "hydra.mode", "hydra.job.name"]
KEYS += ["experiment", "fn", "args", "workload.fn", "workload.file", "hydra/launcher", "workload@device", ""]
TEXTS = [
    "",
    "null",
    "x",
    "-1",
    "1e308",
    "nan",
    "-inf",
    "true",
    "[]",
    "[1]",
    "[[]]",
    "{}",
    "{a:1}",
    "'",
    "???",
]
TEXTS += [
    "..",
    "../x",
    "/",
    "é",
    "a=b",
    "a,b",
    "${size}",
    "${nope}",
    "${",
    "range(0)",
    "glob(*)",
    "\\",
    "\x00",
]
TEXTS += ["x" * 3000, "[" * 50 + "]" * 50, "${oc.env:NOPE}", "${now:}", "choice(1,2)", "~", "@", "int(x)"]
plain = st.none() | st.booleans() | st.integers() | st.floats() | st.sampled_from(TEXTS) | st.text(max_size=5)
values = st.recursive(
    plain, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=2)
)


@pytest.mark.slow
@seed(20)
@settings(max_examples=500, deadline=None, database=None)
@given(place=st.sampled_from(PLACES), value=values)
def test_a_composed_value_is_taken_or_refused_in_words(place: tuple[str, ...], value: Any) -> None:
    raw = copy.deepcopy(COMPOSED)
    inner = raw if len(place) == 1 else raw[place[0]]
    inner[place[-1]] = value
    with suppress(ValueError):
        parse(raw)


@seed(20)
@settings(max_examples=500, deadline=None, database=None)
@given(key=st.sampled_from(KEYS), text=st.sampled_from(TEXTS) | st.text(max_size=8))
def test_an_argument_is_taken_or_refused_in_words(key: str, text: str) -> None:
    with suppress(BadInputError):
        check_arguments([f"{key}={text}"])


@pytest.mark.slow
def test_hydra_takes_them_or_they_are_refused_in_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of whole commands fewer are tried: each takes a third of a second."""
    monkeypatch.setattr(sys, "argv", ["run"])
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")
    monkeypatch.chdir(tmp_path)
    chosen = random.Random(20)
    refused = 0
    for _ in range(40):
        try:
            compose([f"{chosen.choice(KEYS)}={chosen.choice(TEXTS)}"], "0123abcd").discard()
        except BadInputError:
            refused += 1
        assert not list(tmp_path.rglob("*"))
    assert refused > 20

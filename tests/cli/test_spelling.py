"""`fn=` for `workload=custom workload.fn=`: what Hydra reads, and how messages name it."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fakes import make_case, make_failed, make_record

from jaxaccel.cli import spelling
from jaxaccel.cli.spelling import as_typed, expand, in_words_typed, root_of, split_values
from jaxaccel.records import Flag
from jaxaccel.records.errors import BadInputError


@pytest.fixture(autouse=True)
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spelling, "has_gpu", lambda: False)


CUSTOM = ["workload=custom", "device=cpu"]


@pytest.mark.parametrize(
    ("typed", "read"),
    [
        (["size=4", "-m"], ["size=4", "-m"]),
        (["fn=a:b"], ["workload.fn='a:b'", *CUSTOM]),
        (["fn=18-c.py:d", "args=m"], ["workload.fn='18-c.py:d'", *CUSTOM, "workload.args='m'"]),
        (["-m", "fn=a:b, c:d"], ["-m", "workload.fn='a:b','c:d'", *CUSTOM]),
        (["fn='a,b.py:f'"], ["workload.fn='a,b.py:f'", *CUSTOM]),
        (["fn=it's.py:f"], ["workload.fn='it\\'s.py:f'", *CUSTOM]),
        (["fn=${oc.env:F}"], ["workload.fn=${oc.env:F}", *CUSTOM]),
        (["fn=choice(a:b,c:d)"], ["workload.fn=choice(a:b,c:d)", *CUSTOM]),
        (["fn=a:b", "reference=null"], ["workload.fn='a:b'", *CUSTOM, "workload.reference=null"]),
        (["carry=true", "fn=a:b"], ["workload.carry=true", "workload.fn='a:b'", *CUSTOM]),
        (["fn=a:b", "static=[1]"], ["workload.fn='a:b'", *CUSTOM, "workload.static=[1]"]),
        (["fn=a:b", "flops=1e9"], ["workload.fn='a:b'", *CUSTOM, "workload.flops=1e9"]),
        (["fn=a:b", "bytes=8"], ["workload.fn='a:b'", *CUSTOM, "workload.bytes=8"]),
        (["fn=a:b", "tolerance=1e-3"], ["workload.fn='a:b'", *CUSTOM, "workload.tolerance=1e-3"]),
        (["fn=a:b", "--cfg", "job"], ["workload.fn='a:b'", *CUSTOM, "--cfg", "job"]),
        (["fn=a:b", "fn=c:d"], ["workload.fn='a:b'", *CUSTOM, "workload.fn='c:d'"]),
        (["fn=a:b", "workload=custom", "device=gpu"], ["workload.fn='a:b'", "workload=custom", "device=gpu"]),
        (["fn=a:b", "experiment=own_code"], ["workload.fn='a:b'", "workload=custom", "experiment=own_code"]),
        (["workload=custom", "workload.fn=1e5:f"], ["workload=custom", "workload.fn='1e5:f'"]),
        (["workload=exported", "args=a:b"], ["workload=exported", "workload.args='a:b'"]),
    ],
)
def test_short_arguments_are_written_out(typed: list[str], read: list[str]) -> None:
    assert expand(typed) == read


@pytest.mark.parametrize(
    ("typed", "words"),
    [
        (["fn=a:b", "workload=mlp"], "`workload` must be left out beside `fn`.*got 'mlp'"),
        (["fn=a:b", "workload.fn=a:b"], "`fn` is short for `workload.fn`: give one of them"),
        (["args=a:b"], "`args` belongs to a function of your own: add fn=FILE.py:NAME or"),
        (["static=[1]", "size=3"], "`static` belongs to a function of your own"),
    ],
)
def test_what_can_not_go_together_is_refused(typed: list[str], words: str) -> None:
    with pytest.raises(BadInputError, match=words):
        expand(typed)


@pytest.mark.parametrize(
    ("plugins", "nvml", "platforms", "found"),
    [
        (["cuda"], True, None, True),
        (["cuda"], False, None, False),
        ([], True, None, False),
        (["cuda"], True, "cpu", False),
        (["cuda"], True, "cuda,cpu", True),
        (["METAL"], False, None, True),
    ],
)
def test_a_gpu_takes_a_device_and_a_plugin_of_jax(
    plugins: list[str], nvml: bool, platforms: str | None, found: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Gpu:
        def close(self) -> None: ...

    monkeypatch.undo()
    monkeypatch.delenv("JAX_PLATFORMS", raising=False)
    if platforms:
        monkeypatch.setenv("JAX_PLATFORMS", platforms)
    monkeypatch.setattr(spelling, "gpu_plugins", lambda: plugins)
    monkeypatch.setattr(spelling, "open_gpu", lambda: Gpu() if nvml else "no driver")
    spelling.has_gpu.cache_clear()
    assert spelling.has_gpu() is found
    assert spelling.device_of(["fn=a:b"]) == ("both" if found else "cpu")
    assert spelling.device_of(["fn=a:b", "device=cpu"]) is None
    assert spelling.device_of(["size=3"]) is None
    spelling.has_gpu.cache_clear()


SAID = "`workload.fn`: m:f; see `workload.args`, workload.static=[1], `workload.variant`, fn=m:f"


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ([], SAID),
        (["workload.fn=m:f"], SAID),
        (["fn=m:f"], "`fn`: m:f; see `args`, static=[1], `workload.variant`, fn=m:f"),
        (
            ["fn=m:f", "workload.static=[1]"],
            SAID.replace("workload.fn", "fn").replace("workload.args", "args"),
        ),
        (["fn=./m.py:f"], "`fn`: ./m.py:f; see `args`, static=[1], `workload.variant`, fn=m:f"),
        (["workload.fn=m.py:f"], SAID.replace(" m:f", " m.py:f")),
    ],
)
def test_messages_name_arguments_as_they_were_typed(
    typed: list[str], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "m.py").touch()
    assert as_typed(SAID, typed) == said
    assert as_typed(as_typed(SAID, typed), typed) == said


def test_an_argument_that_is_quoted_whole_is_quoted_as_typed() -> None:
    assert as_typed("`workload.fn='a:b','c:d'` is a list", ["fn=a:b,c:d"]) == "`fn=a:b,c:d` is a list"


def test_a_record_tells_in_the_words_of_its_command() -> None:
    failed = make_failed("cpu")
    assert failed.error is not None
    record = replace(
        failed,
        command="python -m jaxaccel.run fn=m:f size=3",
        error=replace(failed.error, message="`workload.fn` is wrong", hint="use workload.static=[1]"),
        warnings=(
            Flag(name="a", metric=None, message="set workload.flops"),
            Flag(name="a", metric=None, message="set flops"),
        ),
        absent={"cost": "no `workload.flops`"},
    )
    said = in_words_typed(record)
    assert said.error is not None
    assert (said.error.message, said.error.hint) == ("`fn` is wrong", "use static=[1]")
    assert said.warnings == (Flag(name="a", metric=None, message="set flops"),)
    assert said.absent == {"cost": "no `flops`"}
    plain = replace(record, command="python -m jaxaccel.run workload=custom workload.fn=m:f")
    assert in_words_typed(plain) == plain


def test_the_folder_of_a_record_s_file_is_known_from_its_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("lib/m.py", "lib/n.py", "other/p.py"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()

    def root(command: str, **params: Any) -> str | None:
        case = make_case(workload="custom", params=params)
        return root_of(make_record("cpu", case=case, command=f"python -m jaxaccel.run {command}"))

    lib = str(tmp_path / "lib")
    assert root("-m fn=lib/m.py:f,other/p.py:g args=make_args", fn="m:f", args="m:make_args") == lib
    assert root("workload=custom 'workload.fn=lib/m.py:f'", fn="m:f", args="m:make_args") == lib
    assert root("fn=m:f", fn="m:f", args="m:make_args") is None
    assert root("fn=gone/m.py:f", fn="m:f", args="m:make_args") is None
    assert root("size=3") is None


def test_values_are_split_at_the_commas_between_them() -> None:
    assert split_values("a,b") == ["a", "b"]
    assert split_values("[1,2],[3]") == ["[1,2]", "[3]"]
    assert split_values("'a,b',c") == ["'a,b'", "c"]
    assert split_values("") == [""]

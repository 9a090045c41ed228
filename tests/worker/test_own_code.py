"""What own code sets for its process: for each of its cases, recorded, and for no other's; and its source."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest
from own_request import request

from jaxaccel.records import DEBUG_SETTING, SETTING, SETTING_IGNORED, Arm, Case, Metric
from jaxaccel.records.messages import (
    AskRound,
    Close,
    Failure,
    Inspect,
    Inspected,
    Message,
    Open,
    Opened,
    Round,
)
from jaxaccel.session.worker_process import Worker
from jaxaccel.worker.own_code import OwnCode

ENDS = """
    import numpy as np

    def make_args(size):
        return np.ones(size)
"""
# Each ends with make_args. What a module tells of the process is in its output's shape.
MODULES = {
    "plain": "def fn(x): return x * 2",
    "wide": """
        import jax
        jax.config.update("jax_enable_x64", True)
        def fn(x): return x * 2
    """,
    "wide_below": "import wide\nfrom wide import fn",
    "wide_late": """
        import jax
        def fn(x):
            jax.config.update("jax_enable_x64", True)
            return x * 2
    """,
    "constant": """
        import jax.numpy as jnp
        TWO = jnp.asarray(2.0)
        def fn(x): return x * TWO.dtype.itemsize
    """,
    "nans": """
        import jax
        jax.config.update("jax_debug_nans", True)
        def fn(x): return x * 2
    """,
    "nans_below": "from nans import fn",
    "strict": """
        import jax
        jax.config.update("jax_numpy_dtype_promotion", "strict")
        jax.config.update("jax_traceback_filtering", "off")
        def fn(x): return x * 2
    """,
    "no_jit": """
        import jax
        jax.config.update("jax_disable_jit", True)
        def fn(x): return x * 2
    """,
    "late_flags": """
        import os
        os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=2"
        os.environ["OMP_NUM_THREADS"] = "1"
        os.environ["SOME_DATA"] = "here"
        def fn(x): return x * 2
    """,
    "messy": """
        import gc, os, signal, sys, warnings
        import numpy as np
        os.chdir("/")
        os.environ["MESSY"] = "1"
        sys.argv.append("--messy")
        sys.path.insert(0, "/messy")
        sys.stdout = open(os.devnull, "w")
        signal.signal(signal.SIGALRM, lambda *_: os._exit(7))
        signal.setitimer(signal.ITIMER_REAL, 100)
        warnings.simplefilter("error")
        np.seterr(all="raise")
        gc.disable()
        def fn(x): return x * 2
    """,
    "closing": """
        import os, sys
        sys.stdin.close()
        os.close(1)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 2)
        def fn(x): return x * 2
    """,
    "looks": """
        import gc, os, signal, stat, sys, warnings
        import jax
        import numpy as np
        def fn(x):
            wrong = [
                os.getcwd() != {cwd!r}, "MESSY" in os.environ, len(sys.argv) != 1, "/messy" in sys.path,
                sys.stdout is not sys.__stdout__, signal.getsignal(signal.SIGALRM) is not signal.SIG_DFL,
                np.geterr()["over"] == "raise", not gc.isenabled(),
                not all(stat.S_ISFIFO(os.fstat(f).st_mode) for f in (1, 2)),
                jax.config.jax_debug_nans, "XLA_FLAGS" in os.environ,
                signal.getitimer(signal.ITIMER_REAL) != (0, 0),
            ]
            assert not any(wrong), wrong
            assert sys.argv[0] == __file__, sys.argv
            assert not sys.stdin.read()
            return x * 2
    """,
    "parses": """
        import argparse
        parser = argparse.ArgumentParser()
        parser.add_argument("--scale", type=float, default=2.0)
        SCALE = parser.parse_args().scale
        def fn(x): return x * SCALE
    """,
    "asks": "def fn(x): return x * float(input('how much? '))",
    "stops": "def fn(x):\n    breakpoint()\n    return x * 2",
    "exits": "import sys\ndef fn(x): sys.exit(3)",
    "interrupts": "def fn(x): raise KeyboardInterrupt",
    "uses": "import opt_einsum\nimport helping.deeply as deeply\ndef fn(x): return deeply.twice(x)",
    "lazily": "def fn(x):\n    from helping import deeply\n    return deeply.twice(x)",
}


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of such modules, and a package."""
    folder = tmp_path_factory.mktemp("project")
    for name, text in MODULES.items():
        text = dedent(text).replace("{cwd!r}", repr(str(Path.cwd())))
        (folder / f"{name}.py").write_text(text + dedent(ENDS))
    (folder / "helping").mkdir()
    (folder / "helping" / "__init__.py").write_text("from . import other\n")
    (folder / "helping" / "other.py").write_text("A = 1\n")
    (folder / "helping" / "deeply.py").write_text("def twice(x): return 2 * x\n")
    (folder / "helping" / "unused.py").write_text("A = 1\n")
    return folder


@pytest.fixture(scope="module")
def worker(project: Path) -> Iterator[Worker]:
    with worker_of(project) as one:
        yield one


def worker_of(folder: Path, **variables: str) -> Worker:
    hidden = dict.fromkeys(("CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES"), "-1")
    path = os.pathsep.join(filter(None, [str(folder), os.environ.get("PYTHONPATH")]))
    return Worker("cpu", variables={**hidden, "PYTHONPATH": path, **variables})


def measured(worker: Worker, name: str, **more: Any) -> Opened:
    """The facts of a case that can also be timed and inspected, and is left."""
    asked = request(name, **more)
    facts = worker.ask(asked)
    assert isinstance(facts, Opened), facts
    assert isinstance(worker.ask(AskRound(key=asked.key, metric=Metric.latency)), Round)
    assert isinstance(worker.ask(Inspect(key=asked.key)), Inspected)
    worker.ask(Close(key=asked.key))
    return facts


def refused(worker: Worker, name: str, **more: Any) -> Failure:
    answer = worker.ask(request(name, **more))
    assert isinstance(answer, Failure), answer
    assert answer.refused, answer
    return answer


def flags_of(facts: Opened) -> dict[str, str]:
    return {flag.name: flag.message for flag in facts.warnings}


def bytes_of(facts: Opened) -> int:
    assert facts.memory.arguments_bytes is not None
    return facts.memory.arguments_bytes


# --- settings of JAX -------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("name", ["wide", "wide_below", "wide_late"])
def test_another_width_than_the_label_s_is_refused_for_each_case_alike(worker: Worker, name: str) -> None:
    by = "the code" if name == "wide_late" else "the module wide"
    for size in (8, 9, 10):
        message = refused(worker, name, size=size).error.message
        assert message == (
            f"`dtype` is float32, but jax_enable_x64 is set to True by {by}: use dtype=float64, or "
            "remove the setting"
        )


@pytest.mark.slow
def test_the_width_of_the_label_may_be_set(worker: Worker) -> None:
    assert bytes_of(measured(worker, "wide", dtype="float64")) == 64
    refused(worker, "wide")  # also where its first case was right
    assert bytes_of(measured(worker, "plain")) == 32


@pytest.mark.slow
def test_a_module_s_constants_have_the_width_of_the_case(worker: Worker) -> None:
    """Whichever case of it was first."""
    for size in (9, 16):
        for dtype, width in (("float64", 8), ("float32", 4)):
            (leaf,) = measured(worker, "constant", dtype=dtype, size=size).accuracy.sketch
            assert leaf.norm == pytest.approx(width * size**0.5)


@pytest.mark.slow
def test_what_a_module_sets_holds_for_its_cases_and_no_others(worker: Worker) -> None:
    for name, size in (("nans", 8), ("plain", 8), ("nans_below", 9), ("nans", 10), ("plain", 10)):
        facts = measured(worker, name, size=size)
        if name == "plain":
            assert "jax_debug_nans" not in facts.arm.flags
            assert DEBUG_SETTING not in flags_of(facts)
        else:
            assert facts.arm.flags["jax_debug_nans"] == "True"
            assert "jax_debug_nans=True, set by the module nans: " in flags_of(facts)[DEBUG_SETTING]


@pytest.mark.slow
def test_a_setting_is_recorded_and_flagged_only_where_it_changes_something(worker: Worker) -> None:
    facts = measured(worker, "strict")
    made = {name: text for name, text in facts.arm.flags.items() if name.startswith("jax_")}
    assert made == {"jax_numpy_dtype_promotion": "strict", "jax_traceback_filtering": "off"}
    assert "jax_numpy_dtype_promotion=strict" in flags_of(facts)[SETTING]
    assert not any("traceback" in message for message in flags_of(facts).values())


@pytest.mark.slow
def test_without_jit_there_is_nothing_to_measure(worker: Worker) -> None:
    for size in (8, 9):
        message = refused(worker, "no_jit", size=size).error.message
        assert message.startswith("jax_disable_jit is set by the module no_jit: ")
    measured(worker, "plain")


@pytest.mark.slow
def test_variables_that_are_set_too_late_are_flagged(worker: Worker) -> None:
    for size in (8, 9):
        facts = measured(worker, "late_flags", size=size)
        told = [flag.message for flag in facts.warnings if flag.name == SETTING_IGNORED]
        assert [text.split()[0] for text in told] == ["XLA_FLAGS", "OMP_NUM_THREADS"]
        assert "set by late_flags when JAX was running already, which has no effect" in told[0]
        assert "device.flags" in told[0]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["JAX_DISABLE_JIT", "JAX_ENABLE_X64"])
def test_variables_of_the_environment_are_told(project: Path, name: str) -> None:
    built_in = Open(
        key="a",
        arm=Arm(
            case=Case(workload="matvec", size=5, dtype="float32", precision="highest", variant="direct"),
            device="cpu",
            target="jaxaccel.workloads.matvec:Matvec",
        ),
        metrics=(Metric.latency,),
    )
    others = {"JAX_DEBUG_NANS": "1", "JAX_DUMP_IR_TO": "/somewhere"}
    with worker_of(project, **{name: "1"}, **others) as one:
        found: list[Message] = [one.ask(built_in), one.ask(request("plain"))]
    if name == "JAX_DISABLE_JIT":
        for answer in found:
            assert isinstance(answer, Failure)
            assert answer.refused
            assert answer.error.message.startswith("JAX_DISABLE_JIT is set in the environment: ")
        return
    for answer in found:
        assert isinstance(answer, Opened)
        assert answer.arm.flags.items() >= {name: "1", "JAX_DEBUG_NANS": "1"}.items()
        assert "JAX_DUMP_IR_TO" not in answer.arm.flags
        told = flags_of(answer)
        assert "`dtype`=float32 decides" in told[SETTING_IGNORED]
        assert "set by JAX_DEBUG_NANS of the environment" in told[DEBUG_SETTING]
    assert bytes_of(answer) == 32


# --- the process -----------------------------------------------------------------------------------


@pytest.mark.slow
def test_what_own_code_leaves_behind_reaches_no_other_case(worker: Worker) -> None:
    measured(worker, "looks")
    for size in (8, 9):
        measured(worker, "messy", size=size)
        measured(worker, "closing", size=size)
        measured(worker, "looks", size=size)


def test_a_case_whose_folder_is_gone_leaves_nothing_behind(tmp_path: Path) -> None:
    case = Case(
        workload="custom",
        size=1,
        dtype="float32",
        precision="highest",
        variant="direct",
        params={"fn": "own_kinds:passes_none"},
    )
    own = OwnCode(Arm(case=case, device="cpu", target="jaxaccel.workloads.custom:Custom"))
    here, finders = Path.cwd(), list(sys.meta_path)
    (tmp_path / "gone").mkdir()
    with own:
        os.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    with pytest.raises(FileNotFoundError), own:
        pass
    assert Path.cwd() == here
    assert sys.meta_path == finders


@pytest.mark.slow
def test_own_code_that_parses_arguments_gets_none(worker: Worker) -> None:
    for size in (8, 9):
        measured(worker, "parses", size=size)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "hint"),
    [("asks", "standard input is empty"), ("stops", "debugger"), ("exits", "must not end the process")],
)
def test_code_that_waits_for_a_person_or_ends_is_refused_at_once(
    worker: Worker, name: str, hint: str
) -> None:
    answer = refused(worker, name)
    assert hint in (answer.error.hint or "")
    measured(worker, "looks")


@pytest.mark.slow
def test_whatever_own_code_raises_is_an_answer(worker: Worker) -> None:
    answer = worker.ask(request("interrupts"))
    assert isinstance(answer, Failure)
    assert answer.error.type == "KeyboardInterrupt"
    measured(worker, "plain")


# --- the source ------------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_source_is_that_of_the_modules_and_what_they_import(worker: Worker, project: Path) -> None:
    facts = measured(worker, "uses")
    assert facts.code is not None
    assert facts.code.modules == ("helping", "helping.deeply", "helping.other", "uses")
    assert [*facts.packages] == ["opt_einsum"]
    assert facts.absent["code.commit"] == "the function's file is in no git repository"
    lazily = measured(worker, "lazily")
    assert lazily.code
    assert lazily.code.modules == ("helping", "helping.deeply", "helping.other", "lazily")
    with worker_of(project) as another:  # whatever else has been imported before
        assert measured(another, "lazily").code == lazily.code


def write_step(folder: Path, factor: int) -> None:
    (folder / "step.py").write_text(f"import inner\ndef fn(x): return x * inner.FACTOR\n{dedent(ENDS)}")
    (folder / "inner.py").write_text(f"FACTOR = {factor}\n")


def git(folder: Path, *words: str) -> str:
    name = ["-c", "user.name=a", "-c", "user.email=a@b"]
    done = subprocess.run(
        ["git", *name, *words],
        cwd=folder,
        check=True,
        capture_output=True,
        text=True,
        env={"PATH": os.environ["PATH"]},
    )
    return done.stdout.strip()


@pytest.mark.slow
def test_a_commit_and_whether_it_says_all_are_told(tmp_path: Path) -> None:
    write_step(tmp_path, 2)
    git(tmp_path, "init", "--quiet")
    git(tmp_path, "add", "step.py")
    git(tmp_path, "commit", "--quiet", "-m", "one")
    commit = git(tmp_path, "rev-parse", "HEAD")
    found = []
    for words in (["add", "inner.py"], ["commit", "--quiet", "-m", "two"]):
        with worker_of(tmp_path) as one:
            found.append(measured(one, "step").code)
        git(tmp_path, *words)
    with worker_of(tmp_path) as one:
        found.append(measured(one, "step").code)
    assert [code and (code.commit == commit, code.dirty) for code in found] == [
        (True, True),
        (True, True),
        (False, False),
    ]


Installed = Callable[[Path], tuple[Path, Mapping[str, str]]]


def on_the_path(folder: Path) -> tuple[Path, Mapping[str, str]]:
    return folder / "lib", {"PYTHONPATH": str(folder / "lib")}


def in_site_packages(folder: Path) -> tuple[Path, Mapping[str, str]]:
    place = folder / "site-packages"
    return place, {"PYTHONPATH": str(place)}


@pytest.mark.slow
@pytest.mark.parametrize("installed", [on_the_path, in_site_packages])
def test_an_edit_is_refused_and_a_restart_keeps_the_old_records(
    installed: Installed, tmp_path: Path, environment: dict[str, str]
) -> None:
    place, variables = installed(tmp_path)
    package = place / "mine"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("")
    start = tmp_path / "start"
    start.mkdir()

    def edit(factor: int) -> None:
        (package / "step.py").write_text(
            f"from . import inner\ndef fn(x): return x * inner.FACTOR\n{dedent(ENDS)}"
        )
        (package / "inner.py").write_text(f"FACTOR = {factor}\n")

    def run(module: str, *words: str) -> subprocess.CompletedProcess[str]:
        path = os.pathsep.join([variables["PYTHONPATH"], *filter(None, [environment.get("PYTHONPATH")])])
        return subprocess.run(
            [sys.executable, "-m", f"jaxaccel.{module}", *words],
            cwd=start,
            env={**environment, "PYTHONPATH": path},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    own = ["workload=custom", "workload.fn=mine.step:fn", "workload.args=mine.step:make_args", "size=64"]
    quick = [
        *own,
        "timing=quick",
        "timing.limit_s=0.05",
        "metrics=[latency]",
        "ceilings=off",
        "wandb=disabled",
    ]
    edit(2)
    assert run("run", *quick, "hydra.run.dir=r").returncode == 0
    old = json.loads((start / "r" / "record.json").read_text())
    assert old["code"]["modules"] == ["mine", "mine.inner", "mine.step"]
    assert "source" not in old["case"]["params"]
    edit(3)
    answer = run("run", *quick, "passes=2", "resume=r")
    assert answer.returncode == 2, answer
    (line,) = [line for line in answer.stderr.splitlines() if line.startswith("jaxaccel: ")]
    assert "custom 64 fn=mine.step:fn" in line
    assert f"its source was {old['code']['digest']}, and is " in line
    assert json.loads((start / "r" / "record.json").read_text()) == old

    answer = run("run", *quick, "passes=2", "resume=r", "resume_changed=restart")
    assert answer.returncode == 0, answer
    new = json.loads((start / "r" / "record.json").read_text())
    assert new["case_id"] == old["case_id"]
    assert new["code"]["digest"] in line
    assert {pass_index for pass_index, _, _ in new["timings"]["latency"]["rounds"]} == {0, 1}
    kept = start / "r" / f"record-{old['code']['digest']}.json"
    assert json.loads(kept.read_text()) == old
    told = json.loads(run("report", "r", "--format", "json").stdout)
    assert len(told) == 1

    beside = run("report", "r", "--baseline", str(kept))
    assert f"other source: digest {old['code']['digest']} → {new['code']['digest']}" in beside.stdout
    assert "not compared" not in beside.stdout

"""Own code that once was measured wrongly, refused wrongly, or answered badly: all of tests/field.

Its files are as people wrote them. Most are measured in one session, by one worker: what one of them leaves
behind would reach the others.
"""

import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import field_by_hand
import jax
import pytest
from filelock import FileLock
from processes import ROOT, SUPPORT, TESTS, Ran, clean_environment, python_path, run_in

from jaxaccel import advise

FIELD = TESTS / "field"
MEASURED = ("device=cpu", "timing=quick", "timing.limit_s=0.05", "wandb=disabled", "ceilings=off")
BLOCKED = "metrics=[latency,throughput]"
WITH_DEVICE = "metrics=[latency,throughput,device]"
TWO_DEVICES = {"XLA_FLAGS": "--xla_force_host_platform_device_count=2"}
ARGUMENTS = "everything an argument"
TIMEOUT_S = 300
DIGEST = re.compile(r"\b[0-9a-f]{8,64}\b")


def own(fn: str, args: str = "make_args", *more: str) -> list[str]:
    """The words that name a function of a file, and what makes its arguments."""
    name = fn.partition(":")[0]
    args = args if ":" in args else f"{name}:{args}"
    return ["workload=custom", f"workload.fn={fn}", f"workload.args={args}", *more]


def callables(fn: str, args: str = "make_args") -> list[str]:
    return own(f"18-callables:{fn}", args, BLOCKED)


# By name: the arguments of a job. The order is that in which they are measured: settings that a module makes
# come before what they must not reach.
JOBS: dict[str, list[str]] = {
    "x64 at import": own("05-x64-at-import:fn", "make_args", "size=64", BLOCKED),
    "x64 at import, float64": own("05-x64-at-import:fn", "make_args", "size=64", "dtype=float64", BLOCKED),
    "config at import": own("06-config-at-import:fn", "make_args", "size=64", BLOCKED),
    "no jit at import": own("06-no-jit-at-import:fn", "make_args", "size=64", BLOCKED),
    "flags at import": own("25-flags-at-import:fn", "make_args", BLOCKED),
    "x64 context": own("10-x64-context:fn", "make_args", WITH_DEVICE),
    "argparse at import": own("11-argparse-at-import:fn", "make_args", BLOCKED),
    "plain": own("15-plain-product:fn", "make_args", "size=64", BLOCKED),
    "nnx": own("01-nnx-step-loss-only:train_step", "make_args", "size=128", "metrics=all"),
    "nnx by hand": own("field_by_hand:train_step", "make_training", "size=128", BLOCKED),
    "dict": own("02-dict-changed-in-place:step", "make_args", "size=128", "metrics=all"),
    "dict by hand": own("field_by_hand:step", "make_dict", "size=128", BLOCKED),
    "nnx closed over": own("03-nnx-closed-over:step", "make_args", BLOCKED),
    "reads no argument": own("04-reads-no-argument:fn", "make_args", BLOCKED),
    "stencil": own("07-stencil-constant:fn", "make_args", "size=4096", BLOCKED),
    "expm": own("08-library-constants:fn", "make_args", "size=16", BLOCKED),
    "ndtri": own("08-library-constants:ndtri", "make_args", "size=16", BLOCKED),
    "ode": own("08-library-constants:ode", "make_args", "size=16", BLOCKED),
    "carry ends the work": own(
        "13-carry-ends-the-work:solve", "make_args", "workload.carry=true", "size=256", BLOCKED
    ),
    "carry grows": own("14-carry-overflows:grows", "make_args", "workload.carry=true", BLOCKED),
    "carry decays": own("14-carry-overflows:decays", "make_args", "workload.carry=true", BLOCKED),
    "package": own("16-package-in-use:fn", "make_args", "size=64", BLOCKED),
    "donated": own("19-donated-buffer:put", "make_args", "metrics=[latency,h2d]"),
    "compiler options": own("20-compiler-options:fn", "make_args", BLOCKED),
    "wrong compiler option": own("field_more:with_wrong_option", "make_vector", BLOCKED),
    "four bits": own("21-four-bits:fn", "make_args", BLOCKED),
    "many leaves": own("22-many-leaves:fn", "make_args", "size=300", BLOCKED),
    "comparison": own("26-comparison:fn", "make_args", WITH_DEVICE),
    "large constant": own("field_more:with_large_constant", "make_vector", BLOCKED),
    "generator": callables("generator"),
    "nested text": callables("nested_text"),
    "jitted static": callables("jitted_static", "with_number"),
    "keyword only": callables("keyword_only"),
    "list of two": callables("two", "as_list"),
    "python number": callables("python_number"),
    "scale": callables("scale"),
    "double": callables("double"),
    "clipped": callables("clipped"),
    "file": own("18-callables.py:double", "18-callables:make_args", BLOCKED),
    "file of a folder": own("./18-callables.py:double", "18-callables:make_args", BLOCKED),
    # What is refused before anything is measured.
    "experiment added": ["+experiment=accounting_matvec"],
    "joblib": ["-m", "size=8,9", "hydra/launcher=joblib"],
    "submitit": ["-m", "size=8,9", "hydra/launcher=submitit_local"],
    "optuna": ["-m", "size=8,9", "hydra/sweeper=optuna"],
    # Last, for what they set must reach none: the plain one, once more.
    "plain again": own("15-plain-product:fn", "make_args", "size=65", BLOCKED),
    "size of the environment": own("15-plain-product:fn", "make_args", "size=${oc.env:SZ}", BLOCKED),
}

MORE = '''"""Of the same kinds as what is in tests/field."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

large = jnp.arange(1 << 20, dtype=jnp.float32)  # 4 MiB


@functools.partial(jax.jit, compiler_options={"xla_no_such_option": True})
def with_wrong_option(x):
    return x * 2


def with_large_constant(x):
    return jnp.sin(large) * x[0]


def make_vector():
    return np.ones(4096, np.float32)
'''


def copy_field(folder: Path) -> None:
    folder.mkdir(parents=True)
    for path in FIELD.glob("*.py"):
        shutil.copy(path, folder)
    shutil.copy(SUPPORT / "field_by_hand.py", folder)
    (folder / "field_more.py").write_text(MORE)


@dataclass(frozen=True, kw_only=True, repr=False)
class Answer:
    """What became of a job: its record, or why it was refused before there was one."""

    record: Mapping[str, Any] | None
    refusal: str | None = None

    @property
    def status(self) -> str:
        return "refused" if self.record is None else str(self.record["status"])

    @property
    def said(self) -> str:
        """Why there is no measurement."""
        error = (self.record or {}).get("error") or {}
        return " ".join(filter(None, [self.refusal, error.get("message"), error.get("hint")]))

    @property
    def measured(self) -> Mapping[str, Any]:
        """Its record, which has a latency and a throughput."""
        assert self.status == "ok", f"{self.status}: {self.said}"
        assert self.record is not None
        assert self.record["timings"]["latency"]["median_s"] > 0
        return self.record

    def refused_with(self, *words: str) -> None:
        """Refused, in words among which are these; nothing is told as if it were a fault of jaxaccel's."""
        assert self.status == "refused", f"{self.status}: {self.said}"
        for word in words:
            assert re.search(word, self.said, re.IGNORECASE), f"{word!r} is not in {self.said!r}"
        assert "<lambda>" not in self.said
        assert "workloads/custom.py" not in self.said

    def flags(self, pattern: str = "") -> list[str]:
        """Its flags in which the pattern is found, each as name: message."""
        found = [f"{flag['name']}: {flag['message']}" for flag in self.measured["warnings"]]
        return [flag for flag in found if re.search(pattern, flag, re.IGNORECASE)]


Measured = Callable[[str], Answer]


@pytest.fixture(scope="session")
def answers(shared_folder: Path) -> Measured:
    """answers(NAME) is what became of the job of that name: all are measured in one session."""
    folder = shared_folder / "field"
    out, err, done = folder / "out", folder / "err", folder / "done"
    with FileLock(f"{folder}.lock"):
        if not done.exists():
            copy_field(folder)
            jobs = [
                [*MEASURED, *arguments, *([] if "-m" in arguments else [f"hydra.run.dir=results/{index}"])]
                for index, arguments in enumerate(JOBS.values())
            ]
            (folder / "jobs.json").write_text(json.dumps(jobs))
            path = python_path(ROOT)
            with (
                out.open("w") as told,
                err.open("w") as beside,
                contextlib.suppress(subprocess.TimeoutExpired),
            ):
                subprocess.run(
                    [sys.executable, str(SUPPORT / "several.py"), "jobs.json"],
                    cwd=folder,
                    env=clean_environment(folder / "tmp") | {"SZ": "16", "PYTHONPATH": path},
                    stdout=told,
                    stderr=beside,
                    timeout=TIMEOUT_S,
                    check=False,
                )
            done.touch()
    lines = out.read_text().splitlines()
    assert lines, err.read_text()
    refused = json.loads(lines[0])

    def answer(name: str) -> Answer:
        index = list(JOBS).index(name)
        if (refusal := refused.get(str(index))) is not None:
            return Answer(record=None, refusal=refusal)
        path = folder / "results" / str(index) / "record.json"
        assert path.exists(), err.read_text()
        return Answer(record=json.loads(path.read_text()))

    return answer


def run_field(
    cwd: Path, *arguments: str, env: Mapping[str, str] | None = None, timeout_s: float = 180
) -> Ran:
    """A command of its own, in a folder of the files."""
    if not cwd.exists():
        copy_field(cwd)
    return run_in(cwd, (*MEASURED, *arguments), env or {}, timeout_s=timeout_s)


# --- the whole of what is called -------------------------------------------------------------------


def plain_flops(function: Callable[..., Any], arguments: tuple[Any, ...]) -> float:
    """XLA's count of the program, without jaxaccel."""
    return float(jax.jit(function).lower(*arguments).cost_analysis()["flops"])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "function", "make"),
    [
        ("nnx", field_by_hand.train_step, field_by_hand.make_training),
        ("dict", field_by_hand.step, field_by_hand.make_dict),
    ],
)
def test_what_changes_in_place_is_measured_as_if_it_were_returned(
    answers: Measured, name: str, function: Any, make: Any
) -> None:
    flops = plain_flops(function, make(128, jax.random.key(0)))
    assert answers(f"{name} by hand").measured["cost"]["flops"] == flops
    assert answers(name).measured["cost"]["flops"] == flops
    for metric in ("latency", "throughput", "end_to_end"):
        assert answers(name).measured["timings"][metric]["median_s"] > 0


def test_a_training_step_is_not_its_forward_pass(answers: Measured) -> None:
    forward = plain_flops(field_by_hand.forward, field_by_hand.make_training(128, jax.random.key(0)))
    assert answers("nnx").measured["cost"]["flops"] >= 2 * forward
    # What is carried stays on the device, as in a training loop; the batch travels.
    rows = 128 * 128 * 4
    assert rows <= answers("nnx").measured["transfers"]["h2d_bytes"] < 2 * rows


def test_the_python_around_a_program_has_a_time_of_its_own(answers: Measured) -> None:
    called_s = answers("nnx").measured["as_called_s"]
    assert called_s > answers("nnx").measured["timings"]["latency"]["min_s"]


def test_what_the_function_donates_is_carried(answers: Measured) -> None:
    record = answers("donated").measured
    buffer = 128 << 20
    assert record["memory"]["peak_bytes"] < 1.5 * buffer, "the result has memory of its own"
    assert record["transfers"]["h2d_bytes"] < 1024, "the buffer travels"


def test_a_model_that_is_closed_over_is_to_be_an_argument(answers: Measured) -> None:
    answers("nnx closed over").refused_with("argument")


@pytest.mark.parametrize("name", ["reads no argument", "python number"])
def test_what_reads_no_argument_is_refused(answers: Measured, name: str) -> None:
    answers(name).refused_with("argument")


@pytest.mark.parametrize(
    "name", ["x64 context", "argparse at import", "four bits", "many leaves", "jitted static"]
)
def test_what_plain_jax_runs_is_measured(answers: Measured, name: str) -> None:
    assert answers(name).measured


@pytest.mark.parametrize("name", ["scale", "double", "clipped"])
def test_whatever_can_be_called_is_measured(answers: Measured, name: str) -> None:
    assert answers(name).measured["cost"]["bytes"] >= 2 * 4 * 4096


# --- constants -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "shapes"),
    [("stencil", [r"\(3,\)|\[3\]"]), ("expm", []), ("ndtri", [r"\(\d,\)|\[\d\]"]), ("ode", [])],
)
def test_small_constants_are_a_part_of_the_program_and_named(
    answers: Measured, name: str, shapes: list[str]
) -> None:
    said = answers(name).measured["invariants"][ARGUMENTS]
    assert said.startswith("passed")
    assert len(said) > len("passed"), "the constants are not named"
    for shape in shapes:
        assert re.search(shape, said), said


def test_a_program_without_constants_names_none(answers: Measured) -> None:
    assert answers("plain").measured["invariants"][ARGUMENTS] == "passed"


def test_large_constants_are_not_taken(answers: Measured) -> None:
    answer = answers("large constant")
    assert answer.status in ("failed", "refused")
    assert "1048576" in answer.said.replace(",", "").replace("_", "")
    assert "argument" in answer.said


# --- compiled as the function says -----------------------------------------------------------------


def test_compiler_options_of_the_function_are_those_of_the_program(answers: Measured) -> None:
    assert answers("compiler options").measured
    wrong = answers("wrong compiler option")  # which none but the compiler knows
    assert wrong.status in ("failed", "refused")
    assert "xla_no_such_option" in wrong.said


# --- carries ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["carry ends the work", "carry grows", "carry decays"])
def test_what_becomes_of_a_carry_is_told_with_the_call(answers: Measured, name: str) -> None:
    flags = answers(name).flags("carry")
    assert flags
    assert any(re.search(r"\d", flag) for flag in flags), flags


def test_a_sound_carry_has_no_flag(answers: Measured) -> None:
    assert answers("nnx").flags(r"\bcarry\b") == []


# --- settings --------------------------------------------------------------------------------------


def test_64_bits_of_a_module_are_asked_for_by_dtype(answers: Measured) -> None:
    answers("x64 at import").refused_with("jax_enable_x64", "float64")
    wide = answers("x64 at import, float64").measured
    assert wide["case"]["dtype"] == "float64"
    assert wide["memory"]["arguments_bytes"] == 64 * 64 * 8


def test_a_debugging_setting_of_a_module_is_recorded_and_flagged(answers: Measured) -> None:
    answer = answers("config at import")
    assert answer.flags("jax_debug_nans")
    assert "jax_debug_nans" in json.dumps([answer.measured["arm"], answer.measured["environment"]]).lower()


def test_a_module_that_turns_compiling_off_is_refused(answers: Measured) -> None:
    answers("no jit at import").refused_with("jax_disable_jit")


def test_flags_that_come_too_late_are_flagged(answers: Measured) -> None:
    assert answers("flags at import").flags("XLA_FLAGS")


@pytest.mark.parametrize("name", ["plain", "plain again", "double", "size of the environment"])
def test_settings_of_one_case_do_not_reach_another(answers: Measured, name: str) -> None:
    record = answers(name).measured
    assert answers(name).flags("jax_|XLA_FLAGS|nans") == []
    assert "debug_nans" not in json.dumps(record["arm"]["flags"]).lower()
    leaf = {"plain": 64, "plain again": 65, "size of the environment": 16}.get(name)
    assert record["memory"]["arguments_bytes"] == 4 * (leaf**2 if leaf else 4096)


@pytest.mark.slow
def test_variables_that_jax_reads_are_recorded_and_those_for_debugging_flagged(tmp_path: Path) -> None:
    variables = {"JAX_DEBUG_NANS": "1", "JAX_CHECK_TRACER_LEAKS": "1", "JAX_ENABLE_X64": "1"}
    ran = run_field(tmp_path / "here", *own("15-plain-product:fn"), "size=64", BLOCKED, env=variables)
    assert ran.code == 0, ran.said
    (record,) = ran.records().values()
    told = json.dumps(record["arm"]["flags"]).upper()
    for name in variables:
        assert name in told
    flags = " ".join(f"{flag['name']} {flag['message']}" for flag in record["warnings"]).upper()
    assert "JAX_DEBUG_NANS" in flags
    assert "JAX_CHECK_TRACER_LEAKS" in flags


@pytest.mark.slow
def test_a_variable_that_turns_compiling_off_is_refused(tmp_path: Path) -> None:
    variables = {"JAX_DISABLE_JIT": "1"}
    ran = run_field(tmp_path / "here", *own("15-plain-product:fn"), "size=64", BLOCKED, env=variables)
    assert ran.code == 2, ran.said
    assert "JAX_DISABLE_JIT" in ran.said


# --- what is measured ------------------------------------------------------------------------------


def test_packages_that_own_code_imports_are_in_the_environment(answers: Measured) -> None:
    assert answers("package").measured["environment"]["packages"]["opt_einsum"]


def test_what_was_measured_has_a_digest_in_its_record(answers: Measured) -> None:
    digests = {name: answers(name).measured["code"]["digest"] for name in ("plain", "double", "stencil")}
    assert len(set(digests.values())) == 3
    assert answers("plain again").measured["code"]["digest"] == digests["plain"]
    assert any("15-plain-product" in module for module in answers("plain").measured["code"]["modules"])


def in_layout(layout: str, folder: Path) -> tuple[Path, dict[str, str]]:
    """A file that is edited, where such a layout has it; and what finds it from a folder beside it."""
    home = folder / "project" / "src" / "edited" if layout == "src" else folder / "elsewhere"
    home.mkdir(parents=True)
    if layout == "src":
        (home / "__init__.py").write_text("")
    file = home / ("steps.py" if layout == "src" else "17-edited.py")
    shutil.copy(FIELD / "17-edited.py", file)
    return file, {"PYTHONPATH": os.pathsep.join([str(home.parent if layout == "src" else home), str(ROOT)])}


@pytest.mark.slow
@pytest.mark.parametrize(("layout", "fn"), [("path", "17-edited:fn"), ("src", "edited.steps:fn")])
def test_code_that_was_edited_is_another_program_wherever_it_lies(
    layout: str, fn: str, tmp_path: Path
) -> None:
    file, env = in_layout(layout, tmp_path)
    here = tmp_path / "here"
    job = (*MEASURED, *own(fn), "size=32", "metrics=latency")
    before = run_in(here, (*job, "passes=2", "hydra.run.dir=old"), env)
    assert before.code == 0, before.said
    old = (here / "old" / "record.json").read_bytes()
    file.write_text(file.read_text().replace("N = 1\n", "N = 12\n"))

    ran = run_in(here, (*job, "passes=3", "resume=old"), env)
    assert ran.code == 2, ran.said
    assert json.loads(old)["code"]["digest"] in ran.said
    assert len(set(DIGEST.findall(ran.said))) >= 2, ran.said
    assert (here / "old" / "record.json").read_bytes() == old
    if layout == "src":
        return

    ran = run_in(here, (*job, "passes=2", "hydra.run.dir=new"), env)
    assert ran.code == 0, ran.said
    report = subprocess.run(
        [sys.executable, "-m", "jaxaccel.report", "new", "--baseline", "old"],
        cwd=here,
        env={**clean_environment(tmp_path / "tmp"), **env},
        capture_output=True,
        text=True,
        check=False,
    )
    assert report.returncode in (0, 1), report.stdout + report.stderr
    assert "source" in report.stdout + report.stderr

    ran = run_in(here, (*job, "passes=2", "resume=old", "resume_changed=restart"), env)
    assert ran.code == 0, ran.said
    kept = [path.read_bytes() for path in here.rglob("*.json")]
    assert any(json.loads(text) == json.loads(old) for text in kept if text.startswith(b"{")), "not kept"


# --- the worker is not theirs ----------------------------------------------------------------------


@pytest.mark.slow
def test_what_asks_on_the_terminal_gets_an_answer_in_seconds(tmp_path: Path) -> None:
    job = ("-m", "workload=custom", "workload.fn=09-reads-stdin:fn,09-reads-stdin:debug")
    job = (*job, "workload.args=09-reads-stdin:make_args", BLOCKED)
    ran = run_field(tmp_path / "here", *job, timeout_s=60)
    assert ran.code in (1, 2)
    assert re.search("standard input|stdin", ran.said), ran.said
    assert re.search("debugger|breakpoint|standard input.*standard input", ran.said, re.DOTALL), ran.said


@pytest.mark.slow
def test_several_devices_are_refused(tmp_path: Path) -> None:
    job = ("-m", "workload=custom", "workload.fn=24-several-devices:fn,24-several-devices:mapped")
    job = (*job, "workload.args=24-several-devices:make_args", BLOCKED)
    ran = run_field(tmp_path / "here", *job, env=TWO_DEVICES)
    assert ran.code == 2, ran.said
    said = " ".join(ran.said.split())
    assert "24-several-devices:fn" in said
    assert "24-several-devices:mapped" in said
    assert re.search("one device|2 devices|several devices", said), said
    assert "incompatible devices" not in said


# --- parts of a time -------------------------------------------------------------------------------


def test_a_comparison_has_a_device_time_or_a_true_reason(answers: Measured) -> None:
    record = answers("comparison").measured
    if "device" not in record["timings"]:
        assert "moved" not in record["absent"]["timings.device"]


def test_x64_inside_of_a_function_costs_its_device_time_at_most(answers: Measured) -> None:
    record = answers("x64 context").measured
    missing = {path for path in record["absent"] if re.fullmatch(r"timings\.\w+", path)}
    assert missing <= {"timings.device"} | {p for p in missing if re.search("end_to_end|h2d|d2h", p)}
    assert all(record["absent"][path] for path in missing)


SCALES = {"ns": 1e-9, "µs": 1e-6, "ms": 1e-3, "s": 1.0}


def rows_of(ran: Ran, name: str) -> list[float]:
    """Seconds in the rows of a job's table that begin so."""
    found = re.findall(rf"^\s*{name}\s+([\d.]+) (ns|µs|ms|s)\b", ran.out, re.MULTILINE)
    return [float(value) * SCALES[unit] for value, unit in found]


@pytest.mark.slow
def test_fresh_memory_is_no_dispatch(tmp_path: Path) -> None:
    job = own("12-large-fresh-output:fn", "make_args", "size=4096", WITH_DEVICE)
    ran = run_field(tmp_path / "here", *job)
    assert ran.code == 0, ran.said
    (record,) = ran.records().values()
    floor_s = record["dispatch_floor_s"]["latency"]
    (dispatch_s,) = rows_of(ran, "dispatch") or [0.0]
    assert dispatch_s <= 10 * floor_s + 1e-4, ran.out
    rest_s = record["timings"]["latency"]["median_s"] - record["timings"]["device"]["median_s"]
    if rest_s > 20 * floor_s + 1e-3:
        assert re.search(r"^\s*beyond dispatch\s+fresh memory ", ran.out, re.MULTILINE), ran.out


@pytest.mark.slow
def test_of_a_slow_call_few_are_made_and_what_is_left_out_is_said(tmp_path: Path) -> None:
    # About a second on one core.
    job = own("23-slow-call:fn", "make_args", "size=512", "metrics=all", "device.cpu_cores=1")
    ran = run_field(tmp_path / "here", *job)
    assert ran.code == 0, ran.said
    (record,) = ran.records().values()
    for metric in ("latency", "throughput", "device", "end_to_end"):
        if timing := record["timings"].get(metric):
            assert timing["n"] * timing["depth"] <= 10, f"{metric}: {timing['n']} of {timing['depth']} calls"
        else:
            assert record["absent"][f"timings.{metric}"], metric
    assert "23-slow-call" in ran.err or "custom" in ran.err, "nothing tells that it runs"


# --- words -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("generator", ["18-callables:generator", "generator"]),
        ("nested text", ["18-callables:nested_text", r"\[1\]\['unit'\]", "str|text"]),
        ("keyword only", ["18-callables:keyword_only", "alpha", "position"]),
        ("list of two", ["list", "tuple"]),
        ("python number", ["18-callables:python_number"]),
    ],
)
def test_what_can_not_be_measured_is_refused_in_words_about_it(
    answers: Measured, name: str, words: list[str]
) -> None:
    answers(name).refused_with(*words)


@pytest.mark.parametrize("name", ["file", "file of a folder"])
def test_a_file_is_taken_or_told_how_to_name_it(answers: Measured, name: str) -> None:
    answer = answers(name)
    if answer.status == "ok":
        assert answer.measured["case"]["params"]["fn"] == "18-callables:double"
    else:
        answer.refused_with("18-callables:double")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("experiment added", ["experiment=accounting_matvec", r"without.*\+|\+"]),
        ("joblib", ["hydra/launcher", "joblib"]),
        ("submitit", ["hydra/launcher", "submitit_local"]),
        ("optuna", ["hydra/sweeper", "optuna"]),
    ],
)
def test_an_argument_is_named_as_it_was_typed(answers: Measured, name: str, words: list[str]) -> None:
    answers(name).refused_with(*words)
    assert "`hydra` must be" not in answers(name).said
    assert "override experiment" not in answers(name).said


def test_a_number_of_the_environment_is_a_number(answers: Measured) -> None:
    assert answers("size of the environment").measured["case"]["size"] == 16


@pytest.mark.slow
def test_a_folder_with_a_record_of_another_case_keeps_it(tmp_path: Path) -> None:
    job = (*own("15-plain-product:fn"), "metrics=latency", "hydra.run.dir=same")
    here = tmp_path / "here"
    assert run_field(here, *job, "size=16").code == 0
    ran = run_field(here, *job, "size=32")
    sizes = [json.loads(path.read_text())["case"]["size"] for path in here.rglob("record*.json")]
    assert 16 in sizes
    if ran.code == 0:
        assert 32 in sizes
    else:
        assert ran.code == 2, ran.said
        assert "hydra.run.dir" in ran.said or "same" in ran.said


def test_advice_is_asked_for_in_the_words_of_a_run(
    answers: Measured, shared_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert answers("plain").measured
    words = ["workload=custom", "workload.fn=15-plain-product:fn", "size=64"]
    code = advise.main([str(shared_folder / "field" / "results"), *words])
    said = "".join(capsys.readouterr())
    assert "must name some of" not in said or "fn=" in said
    assert "got 'workload.fn'" not in said or re.search(r"\bfn=\S", said), said
    assert code in (0, 1, 2)

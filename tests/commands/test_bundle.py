"""The bundle of a record: its files, what they do not tell, and repro.py without jaxaccel."""

import json
import os
import platform
import re
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fakes import make_case, make_failed, make_record, make_timing, started
from processes import TIMEOUT_S

from jaxaccel.cli.identify import sources
from jaxaccel.records import CPU_CORES, ArmFacts, Code, Record, store
from jaxaccel.records.errors import BadInputError
from jaxaccel.report import main
from jaxaccel.report.arguments import read
from jaxaccel.report.bundle import arm_of, differences
from jaxaccel.report.repro import repro
from jaxaccel.report.settings import left_out, speed_settings
from jaxaccel.worker.devices import cpu_model
from jaxaccel.worker.dump import nameless, without_host_names

# Finds nothing but the standard library, JAX, and what JAX itself needs.
ALONE = """\
import sys
from importlib.machinery import BuiltinImporter, FrozenImporter, PathFinder

THERE = {"jax", "jaxlib", "numpy", "ml_dtypes", "opt_einsum", "scipy", *sys.stdlib_module_names}


class Alone:
    def find_spec(name, path=None, target=None):
        there = name.partition(".")[0] in THERE or name.startswith("_sysconfigdata")
        return PathFinder.find_spec(name, path, target) if there else None


sys.meta_path[:] = [BuiltinImporter, FrozenImporter, Alone]
"""
SMI = """\
+-----+
|   0  NVIDIA H200    |
+-----+

+-----+
| Processes:          |
|   0  12345   C   /home/ann/venv/bin/python  1018MiB |
+-----+
"""
MLP = {"depth": 1, "batch": 32, "features": 10}
SECRET = "secret-0123456789abcdef"


@pytest.fixture(autouse=True)
def _environment(
    environment: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[None]:
    """That of processes of their own, here: locks of their own, and no GPU is in sight."""
    for name in ("TMPDIR", "JAXACCEL_LOCKS", "XDG_CACHE_HOME", "CUDA_VISIBLE_DEVICES"):
        monkeypatch.setenv(name, environment[name])
    monkeypatch.setattr("tempfile.tempdir", None)
    monkeypatch.setenv("A_TEST_TOKEN", SECRET)
    monkeypatch.chdir(tmp_path)
    yield
    monkeypatch.undo()


def measured(passes: int = 3, **changes: Any) -> Record:
    """A record as this machine's CPU would have it, with few samples."""
    flags = {"JAX_PLATFORMS": "cpu", "XLA_PYTHON_CLIENT_PREALLOCATE": "false"}
    arm = ArmFacts(requested="cpu", platform="cpu", kind=cpu_model(), count=1, variant="direct", flags=flags)
    rounds = [[[1e-4 * (1 + step / 10)] * 3] * 2 for step in range(passes)]
    timings = {"latency": make_timing(*rounds), "throughput": make_timing(*rounds, depth=4)}
    return make_record("cpu", **({"arm": arm, "timings": timings} | changes))


def run_alone(script: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """A script where there is neither jaxaccel nor anything that JAX does not need."""
    there = script.parent.parent / "alone"
    there.mkdir()
    (there / "sitecustomize.py").write_text(ALONE)
    inherited = {name: text for name, text in os.environ.items() if not name.startswith(("JAX_", "XLA_"))}
    return subprocess.run(
        [sys.executable, "-W", "error", str(script), *arguments],
        env={**inherited, "PYTHONPATH": str(there)},
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("case", "passes", "carries", "exact"),
    [
        (make_case(64), 3, False, 0),
        # Adam's count, and the labels.
        (make_case(50, workload="mlp_article", params=MLP), 1, True, 2),
    ],
    ids=["matvec", "mlp_article"],
)
def test_a_bundle_has_all_files_and_its_script_runs_without_jaxaccel(
    case: Any,
    passes: int,
    carries: bool,
    exact: int,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    record = measured(passes, case=case, command=f"python -m jaxaccel.run note={SECRET} out={Path.home()}/x")
    store.save(record, tmp_path / "run")
    assert main(["run", "--bundle"]) == 0, capsys.readouterr().err
    (folder,) = [path for path in Path("run").iterdir() if path.is_dir()]
    assert capsys.readouterr().out == f"Bundle: {folder}.tar.gz, unpacked beside it\n"
    files = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    there = "README.txt repro.py program.bin program.json exact.npz flags.txt environment.txt record.json"
    programs = "stablehlo.mlir hlo_before.txt hlo_after.txt"  # no hlo_repro.txt: it is the same program
    traces = {f"trace/plugins/profile/calls/host.{kind}" for kind in ("xplane.pb", "trace.json.gz")}
    assert files == {*there.split(), *programs.split(), *traces}

    assert "stablehlo" in (folder / "stablehlo.mlir").read_text()
    assert "ENTRY" in (folder / "hlo_before.txt").read_text()
    assert "is_scheduled=true" in (folder / "hlo_after.txt").read_text()
    assert ("input_output_alias" in (folder / "hlo_after.txt").read_text()) is carries
    assert "jaxlib:" in (folder / "environment.txt").read_text()
    facts = json.loads((folder / "program.json").read_text())
    assert facts["carries"] is carries
    assert len(np.load(folder / "exact.npz").files) == exact
    assert store.load_records([folder / "record.json"])[0].timings == record.timings
    assert len(store.load_records(["run"])) == 1, "a bundle beside its record is no second one"

    told_of = [str(Path.home()), str(tmp_path), sys.prefix, SECRET]
    for path in folder.rglob("*"):
        content = path.read_bytes() if path.is_file() else b""
        assert not [word for word in told_of if len(word) > 1 and word.encode() in content], path
    assert f"node='{platform.node()}'" not in (folder / "environment.txt").read_text()
    with tarfile.open(f"{folder}.tar.gz") as archive:
        packed = archive.getmembers()
    assert {entry.name for entry in packed if entry.isfile()} == {f"{folder.name}/{name}" for name in files}
    assert {entry.uname for entry in packed} == {""}

    script = folder / "repro.py"
    assert len(script.read_text().splitlines()) <= 40
    ran = run_alone(script.absolute())
    assert ran.returncode == 0, ran.stderr
    lines = ran.stdout.splitlines()
    assert len(lines) == 2
    for line, metric in zip(lines, ("latency", "throughput"), strict=True):
        found = re.fullmatch(rf"{metric} (\S+) s, recorded (\S+), (.+)", line)
        assert found, line
        here, recorded = float(found[1]), float(found[2])
        assert here > 0
        assert recorded == pytest.approx(record.timings[metric].median_s, rel=1e-3)
        if passes == 1:
            assert found[3] == "too few passes"
            continue
        where, low, high = re.fullmatch(r"(inside|OUTSIDE) (\S+) to (\S+)", found[3]).groups()
        assert where == ("inside" if float(low) <= here <= float(high) else "OUTSIDE")

    assert main(["run", "--bundle"]) == 2
    assert "is there already" in capsys.readouterr().err


@pytest.mark.slow
def test_numbers_of_a_program_with_a_loop_go_along(tmp_path: Path) -> None:
    record = measured(case=make_case(8, workload="small_loop", params={"steps": 3}))
    store.save(record, tmp_path / "run")
    Path("there").mkdir()
    assert main(["run", "--bundle", "--output", "there"]) == 0
    (folder,) = [path for path in Path("there").iterdir() if path.is_dir()]
    exact = np.load(folder / "exact.npz")
    assert {name: exact[name].shape for name in exact.files} == {"0": (8, 8), "1": (8, 8), "2": ()}
    assert exact["2"] == 3
    assert "has a loop" in (folder / "README.txt").read_text()


def test_a_script_sets_what_was_set() -> None:
    arm = ArmFacts(
        requested="gpu",
        platform="gpu",
        kind='NVIDIA "H200"',
        flags={
            "JAX_PLATFORMS": "cuda,cpu",
            "XLA_FLAGS": f"--xla_gpu_autotune_level=2 --xla_dump_to={Path.home()}/x",
            "CUDA_VISIBLE_DEVICES": "3",
        },
    )
    record = measured(arm=arm, case=make_case(dtype="float64", precision="high"))
    text = repro(record, ("float64[8]",) * 5)
    settings = next(line for line in text.splitlines() if line.startswith("SETTINGS"))
    assert "'JAX_PLATFORMS': 'cuda,cpu'" in settings
    assert "'XLA_FLAGS': '--xla_gpu_autotune_level=2'" in settings
    assert "'JAX_ENABLE_X64': 'True'" in settings
    assert "'JAX_DEFAULT_MATMUL_PRECISION': 'high'" in settings
    assert "CUDA_VISIBLE_DEVICES" not in settings
    assert "platform == 'gpu'" in text
    assert "float64[8] and 2 more, by gpu (NVIDIA 'H200')" in text
    compile(text, "repro.py", "exec")
    assert len(text.splitlines()) == 40


@pytest.mark.slow
def test_an_arm_on_some_cores_is_run_again_on_as_many(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kept = {**measured().arm.flags, CPU_CORES: "1"}
    store.save(measured(arm=replace(measured().arm, flags=kept)), tmp_path / "run")
    assert main(["run", "--bundle"]) == 0, capsys.readouterr().err
    (folder,) = [path for path in Path("run").iterdir() if path.is_dir()]
    assert CPU_CORES not in (folder / "README.txt").read_text()  # no difference to tell of
    script = folder / "repro.py"
    lines = script.read_text().splitlines()
    assert len(lines) == 40
    assert not any(CPU_CORES in line for line in lines if line.startswith("SETTINGS"))
    script.write_text(script.read_text() + "print(len(os.sched_getaffinity(0)), file=sys.stderr)\n")
    assert run_alone(script.absolute(), "pass").stderr == "1\n"

    cores = len(os.sched_getaffinity(0)) + 1
    more = replace(measured().arm, flags={**kept, CPU_CORES: str(cores)})
    store.save(measured(arm=more), tmp_path / "more")
    assert main(["more", "--bundle"]) == 2
    assert f"cpu_cores must be at most {cores - 1}" in capsys.readouterr().err


def test_a_bundle_does_not_tell_what_else_runs_on_a_gpu() -> None:
    told = nameless(f"platform: uname(node='box7')\n\n$ nvidia-smi\n{SMI}")
    assert "NVIDIA H200" in told
    assert told.endswith("+-----+")
    assert not [word for word in ("box7", "Processes", "ann") if word in told]


def test_an_interval_within_one_process_is_none_of_a_rerun() -> None:
    timings = {"latency": make_timing([[1e-4 * (1 + step / 100)] * 3 for step in range(6)])}
    assert timings["latency"].ci95_s is not None
    assert "'ci95_s': None" in repro(measured(timings=timings), ("float32[8]",))


# --- what is refused -------------------------------------------------------------------------------

PAIR = [make_record("cpu"), make_record("gpu")]


@pytest.mark.parametrize(
    ("records", "options", "told"),
    [
        (
            PAIR,
            [],
            "`--bundle` is of one record, and there are 2: matvec 1024 on the cpu, matvec 1024 on the gpu",
        ),
        ([make_record()], ["--only", "device=tpu"], "there are none on tpu; name its folder"),
        ([make_record()], ["--only", "size=7"], "`--only size=` must be of 1024 here, got '7'"),
        ([make_failed("cpu")], [], "is to take a record's times again"),
        ([make_record(timings={"device": make_timing([[1e-4] * 3])})], [], "neither latency nor throughput"),
        ([make_record(case=make_case(workload="mine"))], [], "there is no workload 'mine' in conf/workload"),
        ([make_record()], ["--format", "csv"], "not with `--format`"),
        ([make_record()], ["--output", "missing"], "`--output` must be a folder that is there"),
    ],
)
def test_what_can_not_be_bundled_is_refused_in_one_line(
    records: list[Record], options: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    store.save_all(records, Path("run"))
    assert main(["run", "--bundle", *options]) == 2
    said = capsys.readouterr()
    assert (said.out, len(said.err.splitlines())) == ("", 1)
    assert told in said.err
    assert [path.name for path in Path("run").iterdir()] == ["records.jsonl"]


@pytest.mark.slow
def test_a_gpu_that_is_not_here_is_missed(capsys: pytest.CaptureFixture[str]) -> None:
    store.save_all(PAIR, Path("run"))
    assert main(["run", "--bundle", "--only", "device=gpu"]) == 2
    assert "`--bundle` needs the record's gpu, NVIDIA H200: JAX" in capsys.readouterr().err
    assert [path.name for path in Path("run").iterdir()] == ["records.jsonl"]


def test_another_device_is_refused_and_other_versions_are_told() -> None:
    record = make_record("cpu", environment={"packages": {"jax": "0.9", "jaxlib": "0.9"}})
    told = [*differences(record, started("cpu"))]
    assert told[0] == "the record was made with jax 0.9, these files with None"
    other = measured(arm=ArmFacts(requested="cpu", platform="cpu", kind="Another CPU"))
    with pytest.raises(BadInputError, match="Another CPU, and here it is AMD EPYC"):
        [*differences(other, started("cpu"))]


def test_code_that_was_edited_since_is_refused(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("def f(x): return x\n")
    params = {"fn": "mine:f", "args": "mine:f", "source": "0123456789abcdef"}
    with pytest.raises(BadInputError, match="the code of mine:f is not here as it was measured"):
        arm_of(
            make_record(case=make_case(workload="custom", params=params)),
            read(["run", "--bundle", "--run-own-code"]),
        )


@pytest.mark.slow
def test_code_whose_source_is_another_now_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mine.py").write_text("import numpy as np\ndef f(x): return x\ndef g(): return np.ones(3)\n")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")]))
    case = make_case(1, workload="custom", params={"fn": "mine:f", "args": "mine:g"})
    store.save_all([measured(case=case, code=Code(digest="0" * 16, modules=("mine",)))], Path("run"))
    assert main(["run", "--bundle", "--run-own-code"]) == 2
    said = capsys.readouterr().err
    assert (
        "the code of mine:f is not here as it was measured (0000000000000000 was measured, here is " in said
    )
    assert [path.name for path in Path("run").iterdir()] == ["records.jsonl"]


def test_settings_that_own_code_made_are_variables_of_the_script() -> None:
    record = measured()
    flags = {**record.arm.flags, "jax_debug_nans": "True"}
    assert "'JAX_DEBUG_NANS': 'True'" in repro(replace(record, arm=replace(record.arm, flags=flags)), [])


def test_an_exported_program_is_given_and_has_the_content_that_was_measured(tmp_path: Path) -> None:
    (tmp_path / "step.bin").write_bytes(b"something")
    case = make_case(1, workload="exported", params={"sha256": "3fc9b689459d738f"})
    command = "python -m jaxaccel.run workload=exported workload.file=step.bin"
    record = make_record(case=case, command=command)
    given = read(["run", "--bundle", "--program", "step.bin"])
    assert arm_of(record, given).files == {"file": str(tmp_path / "step.bin")}
    with pytest.raises(BadInputError, match="add --program FILE"):
        arm_of(record, read(["run", "--bundle"]))  # a path in a record's command is never opened
    (tmp_path / "step.bin").write_bytes(b"something else")
    with pytest.raises(BadInputError, match="must be the file that was measured"):
        arm_of(record, given)
    with pytest.raises(BadInputError, match="must be a file that is there"):
        arm_of(record, read(["run", "--bundle", "--program", "gone.bin"]))


def test_host_names_are_taken_out_of_a_trace() -> None:
    plane, hosts = b"\x0a\x03abc", b"\x22\x05vm-12"
    assert without_host_names(plane + hosts + plane + hosts) == plane + plane
    with pytest.raises(ValueError, match="wire type 0"):
        without_host_names(b"\x08\x01")


def test_own_code_in_a_file_is_imported_from_where_its_command_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib/train.py").touch()
    case = make_case(workload="custom", params={"fn": "train:step", "args": "train:make_args"})
    command = "python -m jaxaccel.run -m fn=lib/train.py:step size=8,16"
    allowed = read(["run", "--bundle", "--run-own-code"])
    assert arm_of(make_record(case=case, command=command), allowed).files == {"root": str(tmp_path / "lib")}


@pytest.mark.parametrize("beside", ["received/deep/mine.py", "src/mine.py", "mine/__init__.py"])
def test_the_file_that_is_told_is_the_one_that_would_run(
    beside: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a harmless file of that name where one would look first, which would not be imported."""
    monkeypatch.chdir(tmp_path)
    other = tmp_path / ("usual" if beside.startswith("src") else ".") / "mine.py"
    for path in (other, tmp_path / beside):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    monkeypatch.syspath_prepend(str(tmp_path / "usual"))
    command = f"python -m jaxaccel.run fn={beside}:f" if "received" in beside else "python -m jaxaccel.run"
    case = make_case(1, workload="custom", params={"fn": "mine:f", "args": "mine:g"})
    store.save(measured(case=case, command=command), Path("run"))
    assert main(["run", "--bundle"]) == 2
    assert f"fn=mine:f ({beside}), args=mine:g ({beside})" in capsys.readouterr().err


# --- a record from others --------------------------------------------------------------------------

TOUCH = "import pathlib; pathlib.Path({name!r}).write_text('executed')\n"


@pytest.mark.slow
def test_a_bundle_of_a_received_record_executes_and_writes_nothing_of_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    received = tmp_path / "received"
    received.mkdir()
    marks = [tmp_path / name for name in ("sitecustomize.ran", "numpy.ran", "dumped")]
    for module in ("sitecustomize", "numpy", "jaxlib", "matvec"):
        (received / f"{module}.py").write_text(TOUCH.format(name=str(tmp_path / f"{module}.ran")))
    flags = measured().arm.flags | {
        "PYTHONPATH": str(received),
        "PYTHONSTARTUP": str(received / "numpy.py"),
        "LD_PRELOAD": str(received / "x.so"),
        "XLA_FLAGS": f"--xla_cpu_multi_thread_eigen=true --xla_dump_to={marks[2]} --xla_gpu_ptx_file=x",
        "JAX_COMPILATION_CACHE_DIR": str(marks[2]),
    }
    store.save(measured(arm=replace(measured().arm, flags=flags)), received)
    monkeypatch.chdir(received)  # whoever got the folder may be in it
    assert main([".", "--bundle"]) == 0, capsys.readouterr().err
    said = capsys.readouterr().err
    for setting in ("PYTHONPATH=", "LD_PRELOAD=", "XLA_FLAGS=--xla_dump_to=", "JAX_COMPILATION_CACHE_DIR="):
        assert f"does not set {setting}" in said
    assert "multi_thread_eigen" not in said
    assert list(tmp_path.glob("*.ran")) == []
    assert not marks[2].exists()
    (folder,) = [path for path in received.iterdir() if path.is_dir()]
    settings = [line for line in (folder / "repro.py").read_text().splitlines() if "SETTINGS =" in line]
    assert "--xla_cpu_multi_thread_eigen=true'" in settings[0]
    assert str(received) not in settings[0]


@pytest.mark.parametrize(
    ("name", "text", "kept"),
    [
        ("XLA_FLAGS", "--xla_gpu_autotune_level=0 --xla_cpu_max_isa=AVX2", True),
        ("XLA_FLAGS", "--xla_gpu_enable_command_buffer=FUSION,CUBLAS --xla_cpu_use_thunk_runtime", True),
        ("XLA_FLAGS", "/a/file/of/flags", False),
        ("XLA_FLAGS", "flags.txt", False),
        ("XLA_FLAGS", "--xla_dump_to=1", False),
        ("XLA_FLAGS", "--xla_gpu_per_fusion_autotune_cache_dir=x", False),
        ("XLA_FLAGS", "--xla_gpu_load_autotune_results_from=x", False),
        ("XLA_FLAGS", "--xla_gpu_ptx_compiler_extra_flags=x", False),
        ("XLA_FLAGS", "--xla_backend_extra_options=x", False),
        ("XLA_FLAGS", "--xla_cpu_max_isa=../x", False),
        ("XLA_FLAGS", "--xla_cpu_max_isa=a\n--xla_dump_to=x", False),
        ("XLA_PYTHON_CLIENT_MEM_FRACTION", ".75", True),
        ("XLA_PYTHON_CLIENT_MEM_FRACTION", "9.75", False),
        ("OMP_NUM_THREADS", "16", True),
        ("OMP_NUM_THREADS", "99999999", False),
        ("JAX_DEFAULT_MATMUL_PRECISION", "highest", True),
        ("JAX_DEFAULT_MATMUL_PRECISION", "highest\n", False),
        ("PATH", "x", False),
    ],
)
def test_settings_of_speed_are_set_and_no_others(name: str, text: str, kept: bool) -> None:
    found = speed_settings({name: text})
    assert found == ({name: text} if kept else {})
    assert bool(left_out({name: text}, found)) is not kept


@pytest.mark.slow
@pytest.mark.parametrize("source", [True, False])
def test_own_code_is_shown_and_runs_only_where_it_is_allowed(
    source: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "theirs.py").write_text(
        TOUCH.format(name=str(tmp_path / "theirs.ran"))
        + "import jax.numpy as jnp\ndef f(x): return 2 * x\ndef args(size): return (jnp.ones(size),)\n"
    )
    params = {"fn": "theirs:f", "args": "theirs:args"} | ({"source": sources("theirs:f")} if source else {})
    store.save(measured(case=make_case(8, workload="custom", params=params)), tmp_path / "run")
    assert main(["run", "--bundle"]) == 2
    said = capsys.readouterr().err
    assert "fn=theirs:f (theirs.py), args=theirs:args (theirs.py), with XLA_PYTHON_CLIENT_PREALLOCATE" in said
    assert "--run-own-code" in said
    assert not (tmp_path / "theirs.ran").exists()
    if source:
        return
    assert main(["run", "--bundle", "--run-own-code"]) == 0
    assert "running fn=theirs:f" in capsys.readouterr().err
    assert (tmp_path / "theirs.ran").exists()


@pytest.mark.parametrize(
    "params",
    [
        {"sha256": "3fc9b689459d738f", "args": "theirs:args"},
        {"sha256": "3fc9b689459d738f", "reference": "theirs:args"},
    ],
)
def test_functions_beside_an_exported_program_are_own_code_too(
    params: dict[str, str], tmp_path: Path
) -> None:
    (tmp_path / "theirs.py").write_text(TOUCH.format(name="theirs.ran"))
    record = make_record(case=make_case(1, workload="exported", params=params))
    with pytest.raises(BadInputError, match="run-own-code"):
        arm_of(record, read(["run", "--bundle", "--program", "step.bin"]))
    assert not (tmp_path / "theirs.ran").exists()


def test_a_class_outside_of_jaxaccel_is_own_code(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jaxaccel.cli.conf_folder.target_of", lambda _: "os:system")
    with pytest.raises(BadInputError, match=r"workload=os:system \(.*os\.py\)"):
        arm_of(make_record(), read(["run", "--bundle"]))


@pytest.mark.slow
def test_the_name_of_a_bundle_leads_nowhere_else(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    params = {"kind": "../" * 20 + "x", "long": "y" * 900}
    case = make_case(8, params=params)
    store.save(measured(case=case, arm=replace(measured().arm, kind="Another")), tmp_path / "in" / "run")
    assert main(["in/run", "--bundle"]) == 2
    assert "make the bundle on the machine that was measured" in capsys.readouterr().err
    assert [str(path.relative_to("in")) for path in Path("in").rglob("*")] == ["run", "run/record.json"]
    assert not [path for path in tmp_path.iterdir() if "bundle" in path.name]
    for option in (["--program", "x"], ["--run-own-code"]):
        assert main(["in/run", *option]) == 2
        assert "is for a `--bundle`" in capsys.readouterr().err

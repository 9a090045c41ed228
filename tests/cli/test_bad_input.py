"""What can't be is refused in words: the argument, the value, the choices. Nothing is left behind."""

import sys
from pathlib import Path
from typing import Any

import pytest
from fakes import make_case, make_record
from processes import QUICK, RunCli

from jaxaccel import run
from jaxaccel.records import Metric, store

WORKLOADS = [
    "attention",
    "chain",
    "conv2d",
    "custom",
    "dot",
    "exported",
    "fft",
    "group_sum",
    "heat",
    "matmul",
]
WORKLOADS += ["matvec", "mlp", "mlp_article", "rows", "small_loop", "sort", "stream", "transfer"]
DTYPES = ["float32", "bfloat16", "float16", "float64"]

HELD = "ceilings=auto|fresh|off"

# Arguments, and what the message must name.
TABLE: list[tuple[list[str], list[str]]] = [
    (["size=0"], ["`size`", "positive whole number", "0"]),
    (["size=-1"], ["`size`", "positive whole number", "-1"]),
    (["size=abc"], ["`size`", "whole number", "abc"]),
    (["size=1.5"], ["`size`", "whole number", "1.5"]),
    (["size=nan"], ["`size`", "whole number", "nan"]),
    (["size=inf"], ["`size`", "whole number", "inf"]),
    (["size=true"], ["`size`", "whole number", "True"]),
    (["size="], ["`size`", "whole number"]),
    (["size=null"], ["`size`", "whole number", "None"]),
    (["size=[1,2]"], ["`size`", "whole number", "[1, 2]"]),
    (["seed=-1"], ["`seed`", "at least 0", "-1"]),
    (["seed=1.5"], ["`seed`", "whole number", "1.5"]),
    (["passes=0"], ["`passes`", "at least 1", "0"]),
    (["passes=x"], ["`passes`", "whole number", "x"]),
    (["wait_s=0"], ["`wait_s`", "above 0", "0"]),
    (["workload=bogus"], ["`workload`", "'bogus'", *WORKLOADS]),
    (["workload="], ["`workload`", "''", *WORKLOADS]),
    (["device=bogus"], ["`device`", "'bogus'", "both", "cpu", "gpu"]),
    (["device.cpu_cores=0"], ["`device.cpu_cores`", "positive whole number", "0"]),
    (["-m", "device.cpu_cores=1,2"], ["`device.cpu_cores`", "same for all jobs", "1, 2"]),
    (["device=gpu", "device.cpu_cores=1"], ["unknown key `device.cpu_cores`"]),
    (["device=CPU"], ["`device`", "'CPU'", "both", "cpu", "gpu"]),
    (["device=cpu,gpu"], ["device=cpu,gpu"]),
    (["device.arms=[cpu,tpu]"], ["`device.arms`", "cpu or gpu", "tpu"]),
    (["device.arms=[]"], ["`device.arms`", "cpu or gpu", "[]"]),
    (["dtype=bogus"], ["`dtype`", "'bogus'", *DTYPES]),
    (["precision=bogus"], ["`precision`", "'bogus'", "highest", "high", "default"]),
    (["timing=bogus"], ["`timing`", "'bogus'", "quick", "default", "thorough"]),
    (["timing.limit_s=0"], ["`timing.limit_s`", "above 0", "0"]),
    (["timing.limit_s=inf"], ["`timing.limit_s`", "above 0", "inf"]),
    (["timing.limit_s=abc"], ["`timing.limit_s`", "above 0", "'abc'"]),
    (["timing.relative_ci=-0.01"], ["`timing.relative_ci`", "above 0", "-0.01"]),
    (["timing.energy_s=-1"], ["`timing.energy_s`", "seconds", "-1"]),
    (["timing.energy_s=true"], ["`timing.energy_s`", "seconds", "True"]),
    (["timing.energy_s=nan"], ["`timing.energy_s`", "seconds", "nan"]),
    (["metrics=bogus"], ["`metrics`", "all", *Metric, "'bogus'"]),
    (["metrics=[latency,bogus]"], ["`metrics`", "all", *Metric, "'bogus'"]),
    (["metrics=[]"], ["`metrics`", "at least one", "[]"]),
    (["metrics="], ["`metrics`", "''"]),
    (["metrics=latency,device"], ["metrics=latency,device", "-m"]),
    (["ceilings=bogus"], ["`ceilings`", "auto, fresh, off", "'bogus'"]),
    (["-m", "ceilings=auto,bogus"], ["`ceilings`", "auto, fresh, off", "'bogus'"]),
    (["-m", "ceilings=auto,off"], ["`ceilings`", "the same for all jobs", "auto, off"]),
    (["-m", "wait_s=1,2"], ["`wait_s`", "the same for all jobs", "1, 2"]),
    (["wandb=bogus"], ["`wandb`", "'bogus'", "auto", "online", "offline", "disabled"]),
    (["wandb.mode=bogus"], ["`wandb.mode`", "'bogus'", "auto", "online", "offline", "disabled"]),
    (["wandb.project="], ["`wandb.project`", "''"]),
    (["experiment=bogus"], ["`experiment`", "'bogus'", "accounting_matvec"]),
    (["bogus=2"], ["`bogus`", "--help"]),
    (["+bogus=2"], ["`+bogus=2`", "write bogus=2,"]),
    (["++bogus=2"], ["`++bogus=2`", "write bogus=2,"]),
    (["workload.bogus=1"], ["`workload.bogus`", "--help"]),
    (["+workload.bogus=1"], ["`+workload.bogus=1`", "write workload.bogus=1,"]),
    (["timing.bogus=1"], ["`timing.bogus`"]),
    (["device.bogus=1"], ["`device.bogus`"]),
    (["~seed"], ["`~seed`", "key=value"]),
    (["+experiment=accounting_matvec"], ["`+experiment=accounting_matvec`", "write experiment=accounting_"]),
    (
        ["hydra/launcher=joblib"],
        ["`hydra/launcher` must be one of letting_go, basic, got 'joblib'", "itself"],
    ),
    (["-m", "hydra/launcher=submitit_local"], ["`hydra/launcher`", "got 'submitit_local'", "one at a time"]),
    (["hydra/sweeper=optuna"], ["`hydra/sweeper` must be one of one_by_one, basic, got 'optuna'"]),
    (["hydra/job_logging=bogus"], ["`hydra/job_logging` must be one of", "'bogus'"]),
    (["hydra.launcher.n_jobs=2"], ["`hydra.launcher.n_jobs` can't be set"]),
    (["worklod=mlp"], ["unknown key `worklod`; did you mean workload"]),
    (["timing.limt_s=1"], ["unknown key `timing.limt_s`; did you mean limit_s"]),
    (["fnn=a:b"], ["unknown key `fnn`; did you mean fn"]),
    (["size==3"], ["can't read the argument `size==3`", "KEY=VALUE"]),
    (["size=1,2"], ["`size=1,2` is a list of values, which is a sweep: add -m"]),
    (["fn=a:b,c:d"], ["`fn=a:b,c:d` is a list of values, which is a sweep: add -m"]),
    (["fn=a:b", "workload=mlp"], ["`workload` must be left out beside `fn`", "'mlp'"]),
    (["fn=nowhere.py:step"], ["`fn`: there is no Python file 'nowhere.py' here"]),
    (
        ["workload=custom", "workload.fn=nowhere.py:f"],
        ["`workload.fn`: there is no Python file 'nowhere.py'"],
    ),
    (["-m", "fn=a:b,nowhere.py:f"], ["`fn`: there is no Python file 'nowhere.py' here"]),
    (["fn=train"], ["`fn` must be FILE.py:function or package.module:function, got 'train'"]),
    (["fn=12"], ["`fn` must be FILE.py:function or package.module:function, got '12'"]),
    (["fn=a:b", "args=c.py"], ["`args` must be", "got 'c.py': add the function, c.py:NAME"]),
    (["args=make_args"], ["`args` belongs to a function of your own", "fn=FILE.py:NAME or fn=module:NAME"]),
    (["workload=custom"], ["`workload.fn` must be given, as FILE.py:function or package.module:function"]),
    (["fn=${oc.env:NOT_THERE}"], ["`fn`", "'NOT_THERE' not found"]),
    (["-m", "fn=${oc.env:NOT_THERE}"], ["`fn`", "'NOT_THERE' not found"]),
    (["-m", "size=1,2", "hydra.sweep.subdir=x"], ["`hydra.sweep.subdir` gives one folder, x, to matvec 1"]),
    (["workload=exported"], ["`workload.file`", "workload.file=step.bin"]),
    (["workload=exported", "workload.file=nowhere.bin"], ["`workload.file`", "no file 'nowhere.bin'"]),
    (["workload=exported", "workload.file=[a,b]"], ["`workload.file`", "text", "['a', 'b']"]),
    (["resume=nowhere"], ["`resume`", "folder of an earlier run", "nowhere"]),
    (["bogus"], ["`bogus`"]),
    (["-m", "size=glob(*)"], ["0 jobs"]),
    (["-m", "size=16,abc"], ["`size`", "whole number", "abc"]),
    (["-m", "size=16,0"], ["`size`", "positive whole number", "0"]),
    (["-m", "workload=dot,bogus"], ["`workload`", "'bogus'", *WORKLOADS]),
    (["=3"], ["=3"]),
    (["device=[cpu,gpu]"], ["device=[cpu,gpu]", "device=both"]),
    (["size=64", "size=128"], ["`size` is given 2 times, size=64 size=128", "-m size=A,B"]),
    (["-m", "hydra.run.dir=a", "hydra.run.dir=b"], ["`hydra.run.dir` is given 2 times"]),
    (["size=1e19"], ["`size` must be at most 4611686018427387904"]),
    (["seed=4294967296"], ["`seed` must be at most 4294967295, got 4294967296"]),
    (["passes=1e12"], ["`passes` must be at most 1000, got 1000000000000"]),
    (["wait_s=1e300"], ["`wait_s` must be at most 2592000, got 1e+300"]),
    (["timing.limit_s=1e300"], ["`timing.limit_s` must be at most 86400"]),
    (["timing.relative_ci=2"], ["`timing.relative_ci` must be at most 1, got 2"]),
    (["timing.max_rounds=1e12"], ["`timing.max_rounds` must be at most 1000000"]),
    (["timing.max_rounds=true"], ["`timing.max_rounds`", "whole number", "True"]),
    (["timing.passes=x", "passes=1"], ["`timing.passes` must be a whole number, got 'x'"]),
    (
        [f"size=1{'0' * 400}"],
        ["`size` must be at most 4611686018427387904, got 100000000000000… (401 digits)"],
    ),
    ([f"seed=-1{'0' * 400}"], ["`seed` must be a whole number of at least 0, got -1000", "(401 digits)"]),
    ([f"timing.limit_s=1{'0' * 400}"], ["`timing.limit_s` must be at most 86400, got 1000", "(401 digits)"]),
    ([f"size=1{'0' * 5000}"], ["4300 digits", "size=1000", "more characters"]),
    (["device.cpu_cores=1e300"], ["`device.cpu_cores` must be at most 1000000"]),
    (["device.arms=[cpu,cpu]"], ["`device.arms`", "each once", "['cpu', 'cpu']"]),
    (["-m", "device.name=../../.."], ["`device.name` must be a word", "'../../..'"]),
    (["device.flags.cpu={a:[1]}"], ["`device.flags.cpu` must be XLA flags", "'a: [1]'"]),
    (["workload.default_size=x", "size=5"], ["`workload.default_size` must be a whole number, got 'x'"]),
    (["workload.crossover_range=[5]"], ["`workload.crossover_range` must be a list of two sizes, got [5]"]),
    (["wandb.entity=[1]"], ["`wandb.entity` must be a text that is not empty, got [1]"]),
    (["wandb.entity=1"], ["`wandb.entity` must be a text that is not empty, got 1"]),
    (["experiment=../config"], ["`experiment` must be one of", "accounting_dot", "got '../config'"]),
    (["experiment=[../config]"], ["`experiment` must be one of", "got '../config'"]),
    (["workload=[latency]"], ["`workload` must be one of", *WORKLOADS, "got '[latency]'"]),
    (["workload={name:dot}"], ["`workload` must be one of", "got '{name:dot}'"]),
    (["workload=null"], ["`workload` must be one of", "got 'null'"]),
    (["device=../workload/dot"], ["`device` must be one of both, cpu, gpu, got '../workload/dot'"]),
    (["timing=[quick,default]"], ["`timing` must be one of default, quick, thorough"]),
    (["workload@device=dot"], ["unknown key `workload@device`"]),
    (["resume="], ["`resume` must be the folder of an earlier run, got ''"]),
    (["resume=/"], ["`resume` must be the folder of an earlier run, got '/'"]),
    (["-m", "size=range(1,1e9)"], ["a sweep must have at most 10000 jobs"]),
    (["-m", "size=range(1,200)", "seed=range(1,200)"], ["a sweep must have at most 10000 jobs"]),
    (["-m", "hydra.sweep.subdir=${nope}"], ["`hydra.sweep.subdir`", "'nope' not found"]),
    (["-m", "size=1,2", "hydra.sweep.subdir=.."], ["`hydra.sweep.subdir` must name a folder in the sweep's"]),
    (["--bogus"], ["unknown option `--bogus`"]),
    (["--config-name=nope"], ["unknown option `--config-name`"]),
    (["--experimental-rerun=x"], ["unknown option `--experimental-rerun`"]),
    (["--config-dir=nope"], ["`--config-dir` must be a folder of configs, got 'nope'"]),
    (["--config-dir"], ["--config-dir", "expected one argument"]),
    (["--cfg=x"], ["--cfg", "invalid choice"]),
]
# Hydra's settings without effect: it only reads the arguments.
TABLE += [
    (
        [argument],
        [
            f"`{argument.partition('=')[0]}` can't be set: of Hydra's settings, only hydra.run.dir, ",
            "jaxaccel uses Hydra to read arguments and runs the jobs itself",
        ],
    )
    for argument in (
        "hydra=null",
        "hydra.run=null",
        "hydra.job=null",
        "hydra.job.chdir=true",
        "hydra.job.name=a/b",
        "hydra.job.env_copy=[NOT_THERE]",
        "hydra.launcher=x",
        "hydra.launcher._target_=os.system",
        "hydra.output_subdir=..",
        "hydra.runtime.choices.workload=dot",
        "hydra.sweeper.max_batch_size=0",
        "hydra.sweeper.params={a:1}",
        "hydra.verbose={a:1}",
        "hydra.verbose=true",
        "hydra.job_logging.root=x",
        "hydra/env=default",
    )
]
TABLE += [
    ([f"{key}={value}"], [f"`{key}` must name a folder", f"got '{value}'"])
    for key in ("hydra.run.dir", "hydra.sweep.dir", "hydra.sweep.subdir")
    for value in ("", "null", "[1]", "{a:1}")
]
TABLE += [([f"{key}=/"], [f"`{key}` must name a folder"]) for key in ("hydra.run.dir", "hydra.sweep.dir")]
TABLE += [(["hydra/job_logging=default"], ["`hydra/job_logging` must be one of none, disabled"])]
TABLE += [(["hydra.mode=x"], ["`hydra.mode`", "'x'", "RUN, MULTIRUN"])]


@pytest.fixture
def run_here(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Any:
    """run_here(*arguments): exit code and words of a `main` in this process, which starts no workers."""
    monkeypatch.setattr(sys, "argv", ["run"])
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(run, "Launcher", lambda *_: None)
    monkeypatch.setattr(run, "measure_jobs", lambda *_: pytest.fail("this was to be refused"))

    def call(*arguments: str) -> tuple[int, str]:
        code = run.main(arguments)
        captured = capsys.readouterr()
        return code, captured.out + captured.err

    return call


def check(code: int, said: str, names: list[str], cwd: Path) -> None:
    assert code == 2, said
    for name in names:
        assert name in said
    assert said.count("\n") <= 3, said
    assert "Traceback" not in said
    nothing_is_left(cwd)


def nothing_is_left(cwd: Path) -> None:
    """Not even an empty folder."""
    assert not list(cwd.rglob("*"))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "names"),
    TABLE,
    ids=lambda value: " ".join(value),
)
def test_bad_arguments_are_refused_in_words(
    arguments: list[str], names: list[str], run_here: Any, tmp_path: Path
) -> None:
    code, said = run_here(*arguments)
    check(code, said, names, tmp_path)
    assert said.startswith("jaxaccel: ")
    assert said.count("\n") == 1


@pytest.mark.slow
@pytest.mark.parametrize("arguments", [["device=cpu"], ["device=both"], ["-m", "device=cpu,gpu"]])
@pytest.mark.parametrize("size", [32, 16])
def test_a_folder_that_holds_a_record_is_not_written_over(
    arguments: list[str], size: int, run_here: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether of another case or of the same; what Hydra writes beside it stays, too."""
    key = "hydra.sweep.dir" if "-m" in arguments else "hydra.run.dir"
    place = tmp_path / "same" / ("cpu" if "device=both" in arguments else "")
    record = make_record("cpu", case=make_case(size=size))
    store.save(record, place) if "-m" not in arguments else store.save_all([record], place)

    def files() -> dict[Path, bytes]:
        return {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}

    before = files()
    code, said = run_here("size=32", *arguments, f"{key}=same")
    assert code == 2
    assert said == (
        f"jaxaccel: `{key}`: same holds the record of {record.case} already: choose another folder, or "
        "resume=same, which goes on with it\n"
    )
    assert files() == before
    # Through an interpolation, it is found out once Hydra has read it.
    monkeypatch.setenv("FOLDER", "same")
    code, said = run_here("size=32", *arguments, f"{key}=${{oc.env:FOLDER}}")
    assert code == 2
    assert f"same holds the record of {record.case} already" in said
    # A command that goes on with it may.
    monkeypatch.setattr(run, "measure_jobs", lambda *_: 0)
    assert run_here("size=32", *arguments, "resume=same") == (0, "")


@pytest.mark.slow
@pytest.mark.parametrize(
    "arguments", [["size=0"], ["size=32", "wait_s=0"], ["-m", "size=32,0"], ["-m", "size=32", "nope=1"]]
)
@pytest.mark.parametrize("resumes", [True, False])
def test_a_refused_command_leaves_an_earlier_one_s_configs(
    arguments: list[str], resumes: bool, run_here: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = "resume" if resumes else "hydra.sweep.dir" if "-m" in arguments else "hydra.run.dir"
    sweep = [word for word in arguments if word == "-m"] + ["hydra.sweep.subdir=job"] * ("-m" in arguments)
    monkeypatch.setattr(run, "measure_jobs", lambda *_: 0)
    assert run_here(*sweep, "size=16", f"hydra.{'sweep' if sweep else 'run'}.dir=old")[0] == 0

    def files() -> dict[Path, bytes | None]:
        return {path: path.read_bytes() if path.is_file() else None for path in tmp_path.rglob("*")}

    (next(tmp_path.rglob("hydra.yaml"))).unlink()
    before = files()
    assert len(before) > 2
    code, said = run_here(*arguments, *sweep[1:], f"{key}=old")
    assert code == 2, said
    assert files() == before


def test_a_command_refused_later_leaves_them_too(
    run_here: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "measure_jobs", lambda *_: 0)
    assert run_here("size=16", "hydra.run.dir=old")[0] == 0
    before = (tmp_path / "old/.hydra/overrides.yaml").read_text()
    monkeypatch.setattr(run, "measure_jobs", lambda composed, *_: composed.discard() or 2)
    assert run_here("size=32", "resume=old") == (2, "")
    assert (tmp_path / "old/.hydra/overrides.yaml").read_text() == before


def test_files_that_would_be_one_module_are_refused_in_a_sweep(run_here: Any, tmp_path: Path) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "same.py").write_text("")
    code, said = run_here("-m", "fn=a/same.py:f,b/same.py:f")
    assert code == 2
    assert said.startswith("jaxaccel: `fn`: a/same.py and b/same.py are both the module 'same' to Python")


@pytest.mark.parametrize("key", ["hydra.run.dir", "hydra.sweep.dir"])
def test_a_folder_that_can_not_be_made_is_refused(key: str, run_here: Any, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    more = ["-m"] if "sweep" in key else []
    code, said = run_here("size=16", f"{key}=file/below", *more)
    assert code == 2
    assert said.startswith("jaxaccel: can't write to ")
    assert "file" in said
    assert said.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "names"),
    [
        (["size=1e12"], ["`size`=1000000000000 does not fit", "YiB", "free"]),
        (["workload=mlp", "workload.batch=0"], ["`workload.batch`", "positive whole number", "0"]),
        (["-m", "size=1e12,1e13"], ["`size`=1000000000000 does not fit", "`size`=10000000000000 does not"]),
    ],
    ids=lambda value: " ".join(value),
)
def test_what_only_a_worker_can_know_is_refused_as_well(
    arguments: list[str], names: list[str], run_cli: RunCli
) -> None:
    ran = run_cli(*arguments, *QUICK)
    assert ran.code == 2
    said = "".join(line for line in ran.said.splitlines(keepends=True) if line.strip() and line[0] != "[")
    for name in names:
        assert name in said
    assert said.count("\n") <= 2 * len(names)
    assert "Traceback" not in said
    nothing_is_left(ran.cwd)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "names"),
    [
        (["size=0"], ["`size`", "positive whole number", "0"]),
        (["-m", "size=glob(*)"], ["0 jobs"]),
    ],
    ids=lambda value: " ".join(value),
)
def test_the_command_line_refuses_as_main_does(
    arguments: list[str], names: list[str], run_cli: RunCli
) -> None:
    ran = run_cli(*arguments)
    check(ran.code, ran.said, names, ran.cwd)
    assert ran.out == ""


@pytest.mark.parametrize(
    "asked",
    ["debug=true", "debug=True"],
)
def test_debug_shows_where_it_went_wrong(asked: str, run_here: Any) -> None:
    code, said = run_here("size=0", asked)
    assert code == 2
    assert "Traceback" in said
    assert "`size` must be" in said.splitlines()[-1]


def test_debug_of_a_good_command_changes_nothing(run_here: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "measure_jobs", lambda *_: 0)
    assert run_here("size=16", "debug=true") == (0, "")


@pytest.mark.slow
def test_of_a_folder_that_was_there_all_stays_and_nothing_comes(run_here: Any, tmp_path: Path) -> None:
    """However it is refused: here after Hydra has made the folders of a job."""
    for name in ("outputs", "mine", "mine/.hydra"):
        (tmp_path / name).mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("mine")
    before = sorted(tmp_path.rglob("*"))
    assert run_here("size=0")[0] == 2
    assert run_here("size=0", "hydra.run.dir=outputs/a/b")[0] == 2
    assert run_here("-m", "size=0,1", "hydra.sweep.dir=outputs")[0] == 2
    assert sorted(tmp_path.rglob("*")) == before


def test_an_experiment_with_nonsense_is_refused_in_words(run_here: Any, tmp_path: Path) -> None:
    folder = tmp_path / "conf" / "device"
    folder.mkdir(parents=True)
    (folder / "none.yaml").write_text("name: none\n")
    code, said = run_here(f"--config-dir={folder.parent}", "device=none")
    assert (code, said) == (2, "jaxaccel: `device.arms` is missing\n")


@pytest.mark.parametrize(
    ("argument", "size"), [("size=1e6", 10**6), ("size=16.0", 16), ("size=0x10", None), ("size=1_000", 1000)]
)
def test_whole_numbers_may_be_written_as_floats(
    argument: str, size: int | None, run_here: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[int] = []
    monkeypatch.setattr(
        run, "measure_jobs", lambda composed, *_: sizes.extend(job.config.size for job in composed.jobs) or 0
    )
    assert run_here(argument)[0] == (2 if size is None else 0)
    assert sizes == ([] if size is None else [size])


@pytest.mark.slow
def test_help_names_all_that_can_be_asked_for_and_starts_nothing(run_cli: RunCli) -> None:
    ran = run_cli("--help")
    assert ran.code == 0
    for word in (*WORKLOADS, *DTYPES, "cpu|gpu|both", "quick|default|thorough", "highest|high|default", HELD):
        assert word in ran.out
    assert ran.err == ""
    assert list(ran.cwd.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["workload=matvec", "workload.name=dot"], "`workload.name` must be 'matvec', as the config of"),
        (
            ["workload=matvec", "workload._target_=jaxaccel.workloads.dot:Dot"],
            "`workload._target_` must be 'jaxaccel.workloads.matvec:Matvec'",
        ),
        (["workload._target_=os:system"], "`workload._target_` must be 'jaxaccel.workloads.matvec:Matvec'"),
        (["workload=rows", "workload.name=matvec"], "`workload.name` must be 'rows'"),
        (["-m", "workload=matvec,dot", "workload.name=dot"], "`workload.name` must be 'matvec'"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_workload_has_the_name_and_the_class_of_its_config(
    arguments: list[str], told: str, run_here: Any
) -> None:
    code, said = run_here(*arguments)
    assert (code, said.count("\n")) == (2, 1)
    assert told in said


def test_a_config_of_ones_own_has_a_name_of_its_own(run_here: Any, tmp_path: Path) -> None:
    folder = tmp_path / "mine" / "workload"
    folder.mkdir(parents=True)
    (folder / "mine.yaml").write_text("name: dot\n_target_: mine:Mine\ndefault_size: 4\nvariant: direct\n")
    code, said = run_here(f"--config-dir={folder.parent}", "workload=mine")
    assert code == 2
    assert "`workload.name` 'dot' is that of jaxaccel.workloads.dot:Dot" in said

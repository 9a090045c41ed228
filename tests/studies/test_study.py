"""`scripts/study`: definitions, going on, budgets, publishing; and real runs from end to end."""

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from fakes import FakeClock, make_case, make_failed, make_record
from processes import QUICK, ROOT, python_path, settings
from studies import study as module
from studies.study import DEFINITION, EXPERIMENTS, command_of, main, read_study, run_to_its_end

from jaxaccel.cli.compose import compose
from jaxaccel.cli.config import CeilingsMode
from jaxaccel.peers import composing
from jaxaccel.peers.composing import GROUPS, compose_all, read_cases
from jaxaccel.records import Flag, Problem, Record, store
from jaxaccel.records.errors import BadInputError

ASKED = {
    "crossover": ["device", "throughput"],
    "small_and_large": ["latency", "once_100", "every_call", "every_call_pinned"],
}
DEFINED = sorted(EXPERIMENTS.glob(f"*/{DEFINITION}"))
QUICKLY = [path for path in DEFINED if read_study(path).quick]
PASS_FAILED = Flag(name="pass failed", metric=None, message="the cpu worker died")


class FakeRun:
    """Stands for jaxaccel.run: writes what a run has and ends with a code; an ok record and 0 by itself.

    `codes` and `records` are by the name of the run. `calls` are the arguments of each call.
    """

    def __init__(self) -> None:
        self.calls: list[Sequence[str]] = []
        self.codes: dict[str, int | BaseException] = {}
        self.records: dict[str, list[Record]] = {}
        self.takes_s = 0.0
        self.clock = FakeClock()

    def __call__(self, arguments: Sequence[str]) -> int:
        self.calls.append(arguments)
        folder = Path(arguments[-1].removeprefix("resume="))
        assert folder.is_dir(), "run refuses to go on in a folder that is not there"
        self.clock.advance(self.takes_s)
        code = self.codes.get(folder.name, 0)
        if isinstance(code, BaseException):
            raise code
        if code != 2:
            size = len(folder.name)
            store.save_all(self.records.get(folder.name, [make_record(case=make_case(size))]), folder)
        return code

    @property
    def begun(self) -> list[str]:
        """The folders that it was called for."""
        return [Path(arguments[-1].removeprefix("resume=")).as_posix() for arguments in self.calls]


@pytest.fixture
def fake() -> FakeRun:
    return FakeRun()


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder to be in, which has studies of three runs and of one, and a folder that is no study."""
    monkeypatch.chdir(tmp_path)
    define(tmp_path, "alpha", runs={"a": "experiment=one", "bb": "size=1,2 -m", "ccc": "'b=two words'"})
    define(tmp_path, "beta", question="how fast?\n", needs=["cpu"], runs={"dddd": "size=4"})
    (tmp_path / "experiments/other").mkdir()
    return tmp_path


def define(
    root: Path,
    name: str,
    *,
    question: str = "which?",
    needs: Sequence[str] = ("cpu", "gpu"),
    runs: dict[str, str],
    quick: dict[str, str] | None = None,
) -> Path:
    path = root / "experiments" / name / DEFINITION
    path.parent.mkdir(parents=True, exist_ok=True)
    # JSON is YAML too
    whole = {"question": question, "needs": list(needs), "runs": runs} | ({"quick": quick} if quick else {})
    path.write_text(json.dumps(whole))
    return path


Said = Callable[..., tuple[int, str, str]]


@pytest.fixture
def study(here: Path, fake: FakeRun, capsys: pytest.CaptureFixture[str]) -> Said:
    """study(*argv) is the exit code, standard output and standard error, with the fake run."""

    def said(*argv: str) -> tuple[int, str, str]:
        code = main(argv, experiments=Path("experiments"), run=fake, clock=fake.clock)
        return code, *capsys.readouterr()

    return said


# --- going through ---------------------------------------------------------------------------------


def test_each_run_gets_its_arguments_the_overrides_and_its_own_folder(study: Said, fake: FakeRun) -> None:
    assert study("alpha", "passes=2", "wandb=disabled")[0] == 0
    more = ["passes=2", "wandb=disabled"]
    assert fake.calls == [
        ["experiment=one", *more, "resume=outputs/studies/alpha/a"],
        ["size=1,2", "-m", *more, "resume=outputs/studies/alpha/bb"],
        ["b=two words", *more, "resume=outputs/studies/alpha/ccc"],
    ]


def test_what_is_run_is_told_so_that_it_can_be_pasted(study: Said) -> None:
    _, _, err = study("alpha")
    assert "alpha, 3 of 3: python -m jaxaccel.run 'b=two words' resume=outputs/studies/alpha/ccc\n" in err


def test_a_complete_study_gathers_all_records_and_ends_with_how_to_see_them(study: Said) -> None:
    code, out, _ = study("alpha")
    assert code == 0
    gathered = store.load_records(["outputs/studies/alpha/records.jsonl"])
    assert [record.case.size for record in gathered] == [1, 2, 3]
    assert "alpha: complete, 3 records in outputs/studies/alpha/records.jsonl\n" in out
    assert out.endswith("The table: python -m jaxaccel.report outputs/studies/alpha\n")


def test_the_record_that_counts_of_each_arm_is_gathered(study: Said, fake: FakeRun) -> None:
    case = make_case(1)
    later = make_record(case=case, started_at="2027-01-01T00:00:00+00:00")
    fake.records["a"] = [make_failed("cpu", case=case), make_record(case=case), later]
    assert study("alpha")[0] == 0
    assert store.load_records(["outputs/studies/alpha/records.jsonl"])[0] == later


def test_all_are_the_studies_in_alphabetical_order_and_several_can_be_named(
    study: Said, fake: FakeRun
) -> None:
    folders = [f"outputs/studies/alpha/{run}" for run in ("a", "bb", "ccc")]
    assert study("all")[0] == 0
    assert fake.begun == [*folders, "outputs/studies/beta/dddd"]
    fake.calls.clear()
    assert study("beta", "alpha", "beta")[0] == 0
    assert fake.begun == ["outputs/studies/beta/dddd", *folders]


def test_the_same_command_goes_on_in_the_same_folder(study: Said, fake: FakeRun) -> None:
    fake.codes["bb"] = 130
    assert study("alpha")[0] == 130
    fake.codes.clear()
    assert study("alpha", "passes=9")[0] == 0  # more passes go on, too
    assert fake.begun == [f"outputs/studies/alpha/{run}" for run in ("a", "bb", "a", "bb", "ccc")]


def test_overrides_that_make_it_another_study_have_a_folder_of_their_own(study: Said, fake: FakeRun) -> None:
    assert study("beta", "device=gpu", "workload.a_b=1,2", "wandb.project=x", "passes=1")[0] == 0
    assert study("beta", "workload.a_b=1,2", "device=cpu", "device=gpu")[0] == 0
    assert fake.begun == ["outputs/studies/beta+device-gpu+workload.a_b-1-2/dddd"] * 2


@pytest.mark.slow
@pytest.mark.parametrize(("override", "mode"), [("device=cpu", "device-cpu"), ("size=[1, 2]/'a b'", None)])
def test_hydra_can_read_the_folder_that_overrides_give(
    here: Path, monkeypatch: pytest.MonkeyPatch, override: str, mode: str | None
) -> None:
    monkeypatch.setattr(sys, "argv", ["run"])
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")
    study = read_study(here / "experiments/beta" / DEFINITION)
    folder = module.folder_of(study, [override], Path("outputs/studies"))
    assert mode is None or folder.name == f"beta+{mode}"
    (folder / "dddd").mkdir(parents=True)
    composed = compose(["-m", "size=1,2", f"resume={folder.as_posix()}/dddd"], "0123abcd")
    assert composed.folder == here / folder / "dddd"
    assert composed.jobs[0].config.resume == folder / "dddd"


# --- what goes wrong -------------------------------------------------------------------------------


def test_on_one_device_the_runs_that_name_another_are_left_out(
    study: Said, fake: FakeRun, here: Path
) -> None:
    define(here, "beta", runs={"e": "size=1 device=gpu", "ff": "device=cpu size=1", "ggg": "-m device=both"})
    code, out, _ = study("beta", "device=cpu")
    assert [Path(place).name for place in fake.begun] == ["ff", "ggg"]
    assert (code, "beta: complete, 2 records" in out) == (0, True)
    assert "beta+device-cpu: complete: ff 1 measured; ggg 1 measured\n" in study("--list", "beta")[1]
    (here / "outputs/studies/beta+device-both").mkdir()
    assert "beta+device-both: e not begun; ff not begun" in study("--list", "beta")[1]


def test_a_quick_form_is_whole_whatever_device_is_asked_for(study: Said, fake: FakeRun, here: Path) -> None:
    define(here, "beta", runs={"e": "device=gpu"}, quick={"ff": "device=cpu size=1"})
    assert study("beta", "--quick", "device=gpu")[0] == 0
    assert fake.begun == ["outputs/studies/beta+quick+device-gpu/ff"]
    assert "beta+quick+device-gpu: complete: ff 1 measured\n" in study("--list", "--quick", "beta")[1]


def test_a_study_that_has_no_run_of_the_device_is_refused_or_left_out_of_all(
    study: Said, fake: FakeRun, here: Path
) -> None:
    define(here, "beta", runs={"e": "size=1 device=gpu"})
    code, _, err = study("beta", "device=cpu")
    assert (code, fake.calls) == (2, [])
    assert err == "jaxaccel: `device=cpu`: all runs of beta name another device\n"
    code, _, err = study("all", "device=cpu")
    assert [Path(place).parent.name for place in fake.begun] == ["alpha+device-cpu"] * 3
    assert (code, "beta is left out: all its runs name another device\n" in err) == (0, True)


def test_a_run_that_is_incomplete_lets_the_next_one_run(study: Said, fake: FakeRun) -> None:
    fake.codes["a"] = 1
    code, out, err = study("alpha")
    assert code == 1
    assert len(fake.calls) == 3
    assert err.endswith("Remaining: alpha/a (incomplete). Resume with: scripts/study alpha\n")
    assert "complete," not in out
    assert not Path("outputs/studies/alpha/records.jsonl").exists()


def test_bad_input_ends_a_study_and_not_the_next(study: Said, fake: FakeRun) -> None:
    fake.codes |= {"bb": 2, "dddd": 1}
    code, _, err = study("all")
    assert code == 2
    assert [folder.rpartition("/")[2] for folder in fake.begun] == ["a", "bb", "dddd"]
    assert "move outputs/studies/alpha away" in err
    left = "alpha/bb (bad input), alpha/ccc (not begun), beta/dddd (incomplete)"
    assert err.splitlines()[-1] == f"Remaining: {left}. Resume with: scripts/study all"


def test_an_interrupt_ends_everything_and_one_line_says_how_to_go_on(study: Said, fake: FakeRun) -> None:
    fake.codes |= {"a": 1, "bb": 130}
    code, _, err = study("all", "wandb.project=two words")
    assert code == 130
    assert len(fake.calls) == 2
    left = "alpha/a (incomplete), alpha/bb (interrupted), alpha/ccc (not begun), beta/dddd (not begun)"
    again = "scripts/study all 'wandb.project=two words'"
    assert err.splitlines()[-1] == f"Remaining: {left}. Resume with: {again}"


def test_an_interrupt_between_two_runs_is_told_too(study: Said, fake: FakeRun) -> None:
    fake.codes["bb"] = KeyboardInterrupt()
    try:
        code, _, err = study("alpha")
    except KeyboardInterrupt:
        pytest.fail("it came out of main")
    assert code == 130
    assert err.splitlines()[-1] == "Interrupted. Resume with: scripts/study alpha"


def test_gathered_records_are_there_only_while_the_study_is_complete(study: Said, fake: FakeRun) -> None:
    gathered = Path("outputs/studies/alpha/records.jsonl")
    assert study("alpha")[0] == 0
    assert gathered.exists()
    fake.codes["ccc"] = 1
    assert study("alpha")[0] == 1
    assert not gathered.exists()


def test_a_gpu_that_is_not_there_is_told(study: Said, fake: FakeRun) -> None:
    fake.codes |= {"a": 1, "dddd": 1}
    fake.records["a"] = [make_record("cpu"), make_failed("gpu")]
    told = "alpha needs a GPU, and JAX finds none: device=cpu"
    assert told in study("alpha")[2]
    fake.records["a"] = [make_record("cpu"), make_failed("gpu", error=Problem(type="Died", message="died"))]
    assert told not in study("alpha", "device=cpu")[2]
    fake.records["dddd"] = [make_failed("gpu")]
    assert "needs a GPU" not in study("beta")[2]


def test_a_folder_that_can_not_be_made_is_told(study: Said, here: Path) -> None:
    (here / "outputs").write_text("in the way")
    code, _, err = study("alpha")
    assert code == 2
    assert err.startswith("jaxaccel: can't use outputs/studies")
    assert err.count("\n") == 1


# --- a budget --------------------------------------------------------------------------------------


def test_a_spent_budget_begins_no_further_run_and_says_what_is_left(study: Said, fake: FakeRun) -> None:
    fake.takes_s = 40.0
    code, _, err = study("all", "--budget", "80")
    assert code == 1
    assert fake.begun == ["outputs/studies/alpha/a", "outputs/studies/alpha/bb"]
    left = "alpha/ccc (not begun), beta/dddd (not begun)"
    assert err.splitlines()[-1] == f"Remaining: {left}. Resume with: scripts/study all --budget 80"


def test_a_budget_that_suffices_changes_nothing(study: Said, fake: FakeRun) -> None:
    fake.takes_s = 40.0
    assert study("alpha", "--budget", "81", "passes=3")[0] == 0
    assert len(fake.calls) == 3


@pytest.mark.parametrize("budget", ["0", "-1", "nan", "inf", "soon", ""])
def test_a_budget_must_be_a_time(study: Said, fake: FakeRun, budget: str) -> None:
    code, _, err = study("alpha", f"--budget={budget}")
    assert (code, fake.calls) == (2, [])
    assert err == f"jaxaccel: `--budget` must be a number of seconds above 0, got {budget!r}\n"


# --- publishing ------------------------------------------------------------------------------------


def test_a_complete_study_is_published_where_it_is_asked_for(study: Said) -> None:
    published = Path("experiments/alpha/records.jsonl")
    assert study("alpha")[0] == 0
    assert not published.exists()
    code, out, _ = study("alpha", "--publish")
    assert code == 0
    assert published.read_bytes() == Path("outputs/studies/alpha/records.jsonl").read_bytes()
    assert f"Published: {published}\n" in out


@pytest.mark.parametrize(
    "bad",
    [make_failed("gpu", case=make_case(7)), make_record("gpu", case=make_case(7), warnings=(PASS_FAILED,))],
)
def test_records_that_failed_or_lack_passes_are_not_published(
    study: Said, fake: FakeRun, bad: Record
) -> None:
    fake.records["bb"] = [make_record(), bad]  # of an earlier definition: the run itself was complete
    code, out, err = study("alpha", "--publish")
    assert code == 1
    assert "alpha is not published: failed or lacking passes: matvec 7 float32 highest on the gpu\n" in err
    assert "Published" not in out
    assert not Path("experiments/alpha/records.jsonl").exists()


def test_an_incomplete_study_is_not_published(study: Said, fake: FakeRun) -> None:
    fake.codes["a"] = 1
    code, _, err = study("all", "--publish")
    assert code == 1
    assert "alpha is not published: it is not complete\n" in err
    assert not Path("experiments/alpha/records.jsonl").exists()
    assert Path("experiments/beta/records.jsonl").exists()


@pytest.mark.parametrize("override", ["device=cpu", "passes=1", "wandb_=1"])
def test_what_is_published_is_the_study_as_it_is_defined(study: Said, fake: FakeRun, override: str) -> None:
    code, _, err = study("alpha", override, "--publish")
    assert (code, fake.calls) == (2, [])
    assert f"got {override!r}" in err
    assert study("alpha", "wandb.mode=disabled", "wait_s=1", "--publish")[0] == 0


# --- quick forms -----------------------------------------------------------------------------------


def test_a_quick_form_is_run_in_place_of_the_study_into_a_folder_of_its_own(
    study: Said, fake: FakeRun, here: Path
) -> None:
    define(here, "alpha", runs={"a": "size=1"}, quick={"q": "device=cpu size=2"})
    code, out, err = study("alpha", "--quick", "seed=1")
    assert code == 0
    assert fake.calls == [["device=cpu", "size=2", "seed=1", "resume=outputs/studies/alpha+quick+seed-1/q"]]
    assert "alpha+quick, 1 of 1: python -m jaxaccel.run device=cpu" in err
    assert "alpha+quick: complete, 1 records" in out


def test_a_quick_form_asks_for_no_gpu(study: Said, fake: FakeRun, here: Path) -> None:
    define(here, "alpha", runs={"a": "size=1"}, quick={"q": "size=2"})
    error = Problem(type="NoDevice", message="there is none")
    fake.records["q"] = fake.records["a"] = [make_failed("gpu", error=error)]
    assert "needs a GPU" in study("alpha")[2]
    assert "needs a GPU" not in study("alpha", "--quick")[2]
    assert "  needs cpu\n" in study("--list", "alpha", "--quick")[1]


def test_all_quick_forms_are_of_the_studies_that_have_one(study: Said, fake: FakeRun, here: Path) -> None:
    define(here, "alpha", runs={"a": "size=1"}, quick={"q": "size=2"})
    assert study("all", "--quick")[0] == 0
    assert fake.begun == ["outputs/studies/alpha+quick/q"]
    code, _, err = study("beta", "--quick")
    assert (code, len(fake.calls)) == (2, 1)
    assert err == "jaxaccel: `--quick`: beta has no quick form\n"


def test_the_list_of_studies_has_no_quick_forms_in_it(study: Said, here: Path) -> None:
    define(here, "alpha", runs={"a": "size=1"}, quick={"q": "size=2"})
    study("alpha", "--quick")
    study("alpha", "--quick", "seed=1")
    assert study("--list", "alpha")[1] == "alpha: which?\n  needs cpu, gpu\n  a: not begun\n"
    assert study("--list", "alpha", "--quick")[1].splitlines() == [
        "alpha+quick: which?",
        "  needs cpu",
        "  outputs/studies/alpha+quick: complete: q 1 measured",
        "  outputs/studies/alpha+quick+seed-1: complete: q 1 measured",
    ]


def test_a_quick_form_is_not_published(study: Said, fake: FakeRun, here: Path) -> None:
    define(here, "alpha", runs={"a": "size=1"}, quick={"q": "size=2"})
    code, _, err = study("alpha", "--quick", "--publish")
    assert (code, fake.calls) == (2, [])
    assert "`--publish` is for a whole study, got `--quick`" in err


# --- what there is ---------------------------------------------------------------------------------


def test_the_list_says_what_has_been_measured_of_each_study(study: Said, fake: FakeRun) -> None:
    fake.codes |= {"a": 1, "bb": 130}
    lacking = make_record(case=make_case(2), warnings=(PASS_FAILED,))
    fake.records["a"] = [make_record(), lacking, make_failed("gpu")]
    study("alpha")
    study("beta")
    study("beta", "device=gpu")
    fake.calls.clear()
    code, out, _ = study("--list")
    assert (code, fake.calls) == (0, [])
    assert out.splitlines() == [
        "alpha: which?",
        "  needs cpu, gpu",
        "  outputs/studies/alpha: a 2 measured (1 failed, 1 lacking passes); bb 1 measured; ccc not begun",
        "beta: how fast?",
        "  needs cpu",
        "  outputs/studies/beta: complete: dddd 1 measured",
        "  outputs/studies/beta+device-gpu: complete: dddd 1 measured",
    ]


def test_a_record_that_cant_be_read_hides_no_other_study_in_the_list(study: Said, here: Path) -> None:
    folder = here / "outputs/studies/alpha/a"
    folder.mkdir(parents=True)
    (folder / "record.json").write_text("{}")
    code, out, _ = study("--list")
    assert code == 0
    assert "outputs/studies/alpha: a 0 measured, 1 unreadable; bb not begun; ccc not begun" in out
    assert "beta: how fast?" in out


def test_the_list_can_be_of_one_study(study: Said) -> None:
    _, out, _ = study("--list", "alpha")
    assert out == "alpha: which?\n  needs cpu, gpu\n  a, bb, ccc: not begun\n"


# --- bad input -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["gamma", "other", "", "Alpha", "experiments/alpha"])
def test_an_unknown_study_is_refused_with_those_that_there_are(study: Said, fake: FakeRun, name: str) -> None:
    for names in ([name], ["all", name], ["alpha", name]):
        code, _, err = study(*names)
        assert (code, fake.calls) == (2, [])
        assert err == f"jaxaccel: NAME must be one of alpha, beta, all, got {name!r}\n"


def test_no_study_at_all_is_refused(study: Said) -> None:
    code, _, err = study("passes=1")
    assert code == 2
    assert "NAME is missing: one of alpha, beta, all" in err


def test_without_a_checkout_there_are_no_studies(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["all"], experiments=here / "nowhere") == 2
    assert "has no studies" in capsys.readouterr().err


@pytest.mark.parametrize("override", ["resume=x", "hydra.sweep.dir=x", "hydra.run.dir=x"])
def test_the_folder_of_a_run_is_the_study_s(study: Said, fake: FakeRun, here: Path, override: str) -> None:
    code, _, err = study("alpha", override)
    assert (code, fake.calls) == (2, [])
    assert override in err
    define(here, "alpha", runs={"a": "size=1", "b": f"size=2 {override}"})
    code, _, err = study("alpha")
    assert (code, fake.calls) == (2, [])
    assert f"`runs.b` must leave its folder to the study, got {override!r}" in err


@pytest.mark.parametrize("options", [["--nonsense"], ["--budget"], ["--publish=yes"], ["--pub"]])
def test_wrong_options_are_refused_in_one_line(study: Said, fake: FakeRun, options: list[str]) -> None:
    code, out, err = study("alpha", *options)
    assert (code, out, fake.calls) == (2, "", [])
    assert options[0].partition("=")[0] in err
    assert err.count("\n") == 1


GOOD = {"question": "which?", "needs": ["cpu"], "runs": {"a": "size=1"}}


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("question: [", "line 2, column 1"),
        ("", "must have the keys question, needs, runs, got None"),
        ("- a", "must have the keys question, needs, runs, got ['a']"),
        (GOOD | {"query": 1}, "unknown key `query`; a study has question, needs, runs"),
        (GOOD | {"name": "x"}, "unknown key `name`"),
        ({"needs": ["cpu"], "runs": {"a": "b=1"}}, "`question` is missing; a study has"),
        (GOOD | {"question": True}, "`question` must be a text that is not empty, got True"),
        (GOOD | {"question": ""}, "`question` must be a text that is not empty, got ''"),
        (GOOD | {"question": "one\ntwo"}, "`question` must be one line, got 'one\\ntwo'"),
        (GOOD | {"needs": "cpu"}, "`needs` must be a list of cpu or gpu, got 'cpu'"),
        (GOOD | {"needs": []}, "`needs` must be a list of cpu or gpu, got []"),
        (GOOD | {"needs": ["tpu"]}, "`needs` must be a list of cpu or gpu, got ['tpu']"),
        (GOOD | {"runs": {}}, "`runs` must have a name and arguments for each run, got {}"),
        (GOOD | {"runs": ["size=1"]}, "`runs` must have a name and arguments for each run, got ['size=1']"),
        (GOOD | {"quick": ["size=1"]}, "`quick` must have a name and arguments for each run, got ['size=1']"),
        (GOOD | {"quick": {"a": ""}}, "`quick.a` must be a text that is not empty, got ''"),
        (GOOD | {"quick": {"../a": "b=1"}}, "`quick` must be of letters, digits, _ and -, got '../a'"),
        (GOOD | {"quick": {"a": "resume=x"}}, "`quick.a` must leave its folder to the study"),
        (GOOD | {"runs": {"a": None}}, "`runs.a` must be a text that is not empty, got None"),
        (GOOD | {"runs": {"a": ["b=1"]}}, "`runs.a` must be a text that is not empty, got ['b=1']"),
        (GOOD | {"runs": {"a": "b='1"}}, "`runs.a` must be arguments as a shell reads them"),
        (GOOD | {"runs": {"../a": "b=1"}}, "`runs` must be of letters, digits, _ and -, got '../a'"),
        ("{question: q, needs: [cpu], runs: {7: b=1}}", "`runs` must be of letters, digits, _ and -, got 7"),
    ],
)
def test_a_bad_definition_is_refused_in_one_line(study: Said, fake: FakeRun, text: Any, told: str) -> None:
    path = Path("experiments/beta") / DEFINITION
    path.write_text(text if isinstance(text, str) else json.dumps(text))
    code, _, err = study("all")
    assert (code, fake.calls) == (2, []), "nothing is begun where a study of the command can't be"
    assert err.startswith(f"jaxaccel: {path}: ")
    assert told in err
    assert err.count("\n") == 1
    assert study("alpha")[0] == 0


def test_a_good_definition_is_not_refused(here: Path) -> None:
    path = here / "experiments/beta" / DEFINITION
    path.write_text(json.dumps(GOOD))
    assert read_study(path).arguments("a") == ["size=1"]


def test_a_study_s_folder_must_be_a_plain_name(here: Path) -> None:
    with pytest.raises(BadInputError, match="the folder's name"):
        read_study(define(here, "a+b", runs={"a": "size=1"}))


@pytest.mark.slow
def test_help_shows_examples_and_is_quick_to_import(environment: dict[str, str]) -> None:
    look = "import sys, studies.study as s; s.make_parser().print_help(); print(*sorted(sys.modules))"
    path = {"PYTHONPATH": python_path(ROOT, EXPERIMENTS)}
    done = subprocess.run(
        [sys.executable, "-c", look], env=environment | path, capture_output=True, text=True, check=True
    )
    *said, loaded = done.stdout.splitlines()
    assert not set(loaded.split()) & {"numpy", "scipy", "rich", "jax", "hydra", "yaml"}
    for words in ("scripts/study accounting", "all --budget", "device=cpu", "exit code: 0"):
        assert any(words in line for line in said), words


# --- the studies that there are --------------------------------------------------------------------


def test_there_are_studies() -> None:
    assert "accounting" in [path.parent.name for path in DEFINED]


@pytest.mark.slow
@pytest.mark.parametrize("path", QUICKLY, ids=lambda path: path.parent.name)
def test_a_quick_form_composes_and_takes_a_cpu_and_one_pass_of_few_cases(
    path: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(sys, "argv", ["run"])
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "experiments").symlink_to(EXPERIMENTS)
    short = read_study(path).in_short
    # one size, as above; peers read what run reads
    words = [[word for word in short.arguments(run) if word != "peers"] for run in short.runs]
    composed = [compose(module.changed(arguments, ["size=8"]), "0123abcd", GROUPS) for arguments in words]
    jobs = [job for each in composed for job in each.jobs]
    assert {job.config.devices for job in jobs} == {("cpu",)}
    assert {job.config.passes for job in jobs} == {1}
    assert {job.config.ceilings for job in jobs} == {CeilingsMode.off}, "measuring them takes longer"


@pytest.mark.slow
def test_the_sizes_of_the_fields_are_those_of_each_workload(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(sys, "argv", ["run"])
    monkeypatch.chdir(tmp_path)
    study = read_study(EXPERIMENTS / "fields" / DEFINITION)
    found: dict[str, list[int]] = {}
    for job in compose(module.changed(study.arguments("sizes"), ["workload=sort"]), "0123abcd").jobs:
        found.setdefault(job.config.case.workload, []).append(job.config.size)
    assert set(found) == {"sort"}, "of one: the others have their own in the same way"
    for name, sizes in found.items():
        text = (ROOT / f"conf/workload/{name}.yaml").read_text()
        assert f"\nsizes: {sizes}  #" in text
        assert sizes == sorted(set(sizes))


def first_of(argument: str) -> str:
    """An argument with the first of its values, where it is not of devices or workloads."""
    name, _, values = argument.partition("=")
    plain = name not in ("device", "workload") and re.fullmatch(r"[\w.,]+", values)
    return f"{name}={values.partition(',')[0]}" if plain else argument


@pytest.mark.slow
@pytest.mark.parametrize("path", DEFINED, ids=lambda path: path.parent.name)
def test_a_study_of_experiments_composes_and_needs_the_devices_that_it_says(
    path: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(sys, "argv", ["run"])
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "experiments").symlink_to(EXPERIMENTS)  # files of experiments are named from the checkout on
    # Of a sweep the first: a job takes a while to compose, and they only differ in a number.
    monkeypatch.setattr(composing, "read_cases", lambda name: [[*map(first_of, w)] for w in read_cases(name)])
    study = read_study(path)
    devices: set[str] = set()
    for run in study.runs:
        name, *arguments = command_of(study.arguments(run))[1:]
        if name == "jaxaccel.crossover":
            composed = compose(module.changed(arguments, ["device=both"]), "0123abcd", ["crossover=default"])
            questions = list(composed.jobs[0].config.crossover.questions)
            assert questions == ASKED[path.parent.name]
        elif name == "jaxaccel.peers":
            composed = compose_all(arguments, "0123abcd")
        else:
            alone = [] if "workload.file=" in study.runs[run] else ["size=8"]
            composed = compose(module.changed([*map(first_of, arguments)], alone), "0123abcd")
        devices |= {device for job in composed.jobs for device in job.config.devices}
    assert devices == set(study.needs)


# --- real runs -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "code"),
    [("0", 0), ("1", 1), ("2", 2), ("130", 130), ("3", 1), ("-9", 1), ("-2", 130)],
)
def test_a_run_ends_with_its_exit_code_and_a_death_is_incomplete(
    body: str, code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    number = int(body)
    end = f"exit {number}" if number >= 0 else f"kill {number} $$"
    fake_python = tmp_path / "python"
    fake_python.write_text(f'#!/bin/sh\necho "$@" >"{tmp_path}/called"\n{end}\n')
    fake_python.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(fake_python))
    assert run_to_its_end(["size=1", "-m"]) == code
    assert (tmp_path / "called").read_text() == "-m jaxaccel.run size=1 -m\n"
    assert run_to_its_end(["crossover", "workload=dot"]) == code
    assert (tmp_path / "called").read_text() == "-m jaxaccel.crossover workload=dot\n"


@pytest.fixture
def start(here: Path, environment: dict[str, str]) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """start(*argv) begins the real command on the studies of `here`, as a terminal would: in a group."""
    begun: list[subprocess.Popen[str]] = []

    def start_it(*argv: str) -> subprocess.Popen[str]:
        path = python_path(ROOT, EXPERIMENTS)
        look = "from pathlib import Path; from studies.study import main"
        call = f"sys.exit(main({list(argv)!r}, experiments=Path('experiments')))"
        process = subprocess.Popen(
            [sys.executable, "-c", f"import sys; {look}; {call}"],
            env=environment | {"PYTHONPATH": path},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        begun.append(process)
        return process

    yield start_it
    for process in begun:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def samples(folder: Path) -> dict[str, list[float]]:
    """The latencies of each record.json."""
    return {
        path.parent.name: json.loads(path.read_text())["timings"]["latency"]["samples_s"]
        for path in folder.rglob("record.json")
    }


@pytest.mark.slow
def test_a_study_is_run_and_a_finished_one_measures_nothing_anew(
    start: Callable[..., subprocess.Popen[str]], here: Path
) -> None:
    quick = shlex.join(QUICK)
    define(here, "tiny", needs=["cpu"], runs={"sweep": f"-m size=8,9 {quick}", "one": f"size=10 {quick}"})
    process = start("tiny")
    said, _ = process.communicate(timeout=180)
    assert process.returncode == 0, said
    folder = here / "outputs/studies/tiny"
    assert sorted(path.name for path in folder.iterdir()) == ["one", "records.jsonl", "sweep"]
    gathered = store.load_records([folder / "records.jsonl"])
    assert [record.case.size for record in gathered] == [8, 9, 10]
    assert {record.command.rpartition(" ")[2] for record in gathered} == {
        "resume=outputs/studies/tiny/sweep",
        "resume=outputs/studies/tiny/one",
    }
    assert said.splitlines()[-1] == "The table: python -m jaxaccel.report outputs/studies/tiny"
    before = samples(folder)
    again = start("tiny")
    said, _ = again.communicate(timeout=180)
    assert again.returncode == 0, said
    assert samples(folder) == before
    assert store.load_records([folder / "records.jsonl"]) == gathered


@pytest.mark.slow
def test_a_quick_form_is_over_soon_and_leaves_its_records(
    environment: dict[str, str], tmp_path: Path
) -> None:
    arguments = ["sequential", "--quick", "wandb=disabled"]
    script = f"import sys; from studies.study import main; sys.exit(main({arguments}))"
    done = subprocess.run(
        [sys.executable, "-c", script],
        env=environment | {"PYTHONPATH": python_path(ROOT, EXPERIMENTS)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    records = store.load_records([tmp_path / "outputs/studies/sequential+quick/records.jsonl"])
    assert {(record.case.size, record.case.params["steps"]) for record in records} == {
        (size, steps) for size in (16, 1024) for steps in (1, 1000)
    }
    assert all(record.ok and record.accuracy and record.accuracy.ok for record in records)


@pytest.mark.slow
def test_ctrl_c_reaches_the_run_and_the_same_command_goes_on(
    start: Callable[..., subprocess.Popen[str]], here: Path
) -> None:
    slow = shlex.join(settings(*QUICK, "timing.limit_s=1"))
    runs = {"first": f"-m size=16,17,18 {slow}", "second": f"size=9 {slow}"}
    define(here, "slow", needs=["cpu"], runs=runs)
    folder = here / "outputs/studies/slow"
    process = start("slow")
    deadline = time.monotonic() + 120
    while not list(folder.rglob("record.json")):
        assert time.monotonic() < deadline
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGINT)
    said, _ = process.communicate(timeout=60)
    assert process.returncode == 130, said
    assert "Traceback" not in said
    before = samples(folder)
    assert f"interrupted: {len(before)} of 3 results are there" in said
    left = "slow/first (interrupted), slow/second (not begun)"
    assert said.splitlines()[-1] == f"Remaining: {left}. Resume with: scripts/study slow"
    again = start("slow")
    said, _ = again.communicate(timeout=180)
    assert again.returncode == 0, said
    after = samples(folder)
    assert len(after) == 4
    assert {name: after[name] for name in before} == before
    assert len(store.load_records([folder / "records.jsonl"])) == 4


@pytest.mark.slow
def test_where_the_machine_has_no_gpu_the_study_says_so_and_device_cpu_does(
    start: Callable[..., subprocess.Popen[str]], here: Path
) -> None:
    define(here, "tiny", runs={"both": shlex.join(["device=both", "size=8", *QUICK])})
    process = start("tiny")
    said, _ = process.communicate(timeout=180)
    assert process.returncode == 1, said
    assert "failed on the gpu: matvec 8" in said
    assert "tiny needs a GPU, and JAX finds none: device=cpu would measure the CPU alone\n" in said
    alone = start("tiny", "device=cpu")
    said, _ = alone.communicate(timeout=180)
    assert alone.returncode == 0, said
    (record,) = store.load_records([here / "outputs/studies/tiny+device-cpu/records.jsonl"])
    assert (record.arm.requested, record.status) == ("cpu", "ok")

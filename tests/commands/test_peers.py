"""Peers: workers of other frameworks, ratios beside JAX, and that nobody takes their records for JAX's."""

import gc
import json
import re
import subprocess
import sys
import weakref
from contextlib import nullcontext
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fakes import (
    CPU_ENVIRONMENT,
    facts_of,
    failure,
    make_case,
    make_record,
    make_timing,
    noisy_timing,
    opened,
    started,
)
from processes import QUICK, ROOT

from jaxaccel.analyze.compare import pair
from jaxaccel.analyze.peers import Beside, Standing, beside, fastest
from jaxaccel.cli.compose import compose
from jaxaccel.peers import launching
from jaxaccel.peers.__main__ import main
from jaxaccel.peers.composing import compose_all
from jaxaccel.peers.frameworks import FRAMEWORKS, LIBRARIES, Library, chosen, missing_lines
from jaxaccel.peers.launching import SharedLauncher, arm_name, parts, starter
from jaxaccel.peers.measuring import plan
from jaxaccel.peers.worker.__main__ import KINDS, connect, make_answer
from jaxaccel.peers.worker.arm import PeerArm
from jaxaccel.peers.worker.program import fed_epoch
from jaxaccel.peers.worker.with_numpy import NumpyLibrary, Training
from jaxaccel.peers.worker.with_torch import WARM_CALLS, TorchLibrary
from jaxaccel.records import (
    JAX,
    Arm,
    Case,
    Flag,
    Metric,
    Problem,
    Record,
    Status,
    decode_record,
    encode_record,
)
from jaxaccel.records.errors import BadInputError
from jaxaccel.records.messages import (
    COMPANIONS,
    AskRound,
    Close,
    Failure,
    Message,
    Open,
    Opened,
    Round,
    Started,
)
from jaxaccel.records.store import load_records, save_all
from jaxaccel.render.terminal import make_console
from jaxaccel.render.terminal.comparisons import ONE_PROCESS
from jaxaccel.render.terminal.peers import peers_markdown, show_peers
from jaxaccel.session.arm_run import Command, Tally
from jaxaccel.session.rounds import Stop

INSTALLED = [name for name, framework in FRAMEWORKS.items() if "cpu" in framework.devices]
TARGETS = {
    "matvec": "jaxaccel.workloads.matvec:Matvec",
    "dot": "jaxaccel.workloads.dot:Dot",
    "mlp": "jaxaccel.workloads.mlp:Mlp",
    "mlp_article": "jaxaccel.workloads.mlp_article:MlpArticle",
    "training": "jaxaccel.workloads.training:Training",
}


def peer_record(framework: str, seconds: float, **changes: Any) -> Record:
    """A record of a framework beside `make_record`'s of JAX, in turn with it."""
    record = make_record(compile=None, timings={"latency": noisy_timing(seconds, passes=5)})
    facts = replace(record.arm, framework=framework)
    told = CPU_ENVIRONMENT | {"framework": {"library": framework, "version": "1.2", "threads": 4}}
    changed = {"arm": facts, "arm_id": f"{framework}-{record.case_id}", "environment": told} | changes
    return replace(record, **changed)


def jax_record(seconds: float = 1e-4, **changes: Any) -> Record:
    return make_record(timings={"latency": noisy_timing(seconds, passes=5)}, **changes)


# --- ratios ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("peer_s", "standing", "far"),
    [
        (3e-4, Standing.ahead, False),
        (0.9e-4, Standing.behind, False),
        (0.5e-4, Standing.behind, True),
        (1e-4, Standing.equal, False),
    ],
)
def test_a_ratio_is_the_peers_time_over_jaxs_and_says_who_is_ahead(
    peer_s: float, standing: Standing, far: bool
) -> None:
    (one,) = beside([jax_record(1e-4), peer_record("numpy", peer_s)])
    assert one.judged.ratio == pytest.approx(peer_s / 1e-4, rel=0.01)
    assert (one.standing, one.far_behind) == (standing, far)
    assert one.interleaved


def test_a_verdict_allows_for_the_cases_of_its_own_peer_and_of_the_fastest() -> None:
    records = []
    for size in (8, 16, 32):
        case = make_case(size)
        identity = {"case": case, "case_id": case.case_id, "pair_id": str(size)}
        records += [jax_record(**identity), peer_record("numpy", 2e-4, **identity)]
        if size < 32:
            records.append(peer_record("torch", 1.5e-4, **identity))
    found = beside(records)
    assert {(one.framework, one.judged.among) for one in found} == {("numpy", 3), ("torch", 2)}
    assert [(one.framework, one.judged.among) for one in fastest(found)] == [
        ("torch", 3),
        ("torch", 3),
        ("numpy", 3),
    ]


def test_times_that_may_be_noise_are_undecided() -> None:
    wide = {"latency": noisy_timing(1.1e-4, spread=2.0, passes=5)}
    (one,) = beside([jax_record(1e-4), peer_record("numpy", 1e-4, timings=wide)])
    assert one.standing is Standing.undecided


def test_only_the_same_metric_of_the_same_case_and_device_is_compared() -> None:
    timings = {"throughput": noisy_timing(1e-5, passes=5)}
    other = make_case(2048)
    found = beside(
        [
            jax_record(),
            peer_record("numpy", 1e-4, timings=timings),
            peer_record("torch", 1e-4, case=other, case_id=other.case_id),
            peer_record("torch", 1e-4, arm=replace(facts_of("gpu"), framework="torch")),
        ]
    )
    assert found == []


def test_times_of_several_steps_a_call_are_told_per_step() -> None:
    case = make_case(50, variant="scan", params={"steps": 100})
    identity = {"case": case, "case_id": case.case_id, "pair_id": "p"}
    (one,) = beside([jax_record(2e-3, **identity), peer_record("torch", 1e-3, **identity)])
    assert (one.ours_s, one.peer_s) == pytest.approx((2e-5, 1e-5), rel=0.01)


def test_the_fastest_peer_of_each_metric_is_found() -> None:
    both = {"latency": noisy_timing(3e-4, passes=5), "throughput": noisy_timing(1e-5, passes=5)}
    ours = make_record(timings=both)
    numpy, torch = peer_record("numpy", 2e-4), peer_record("torch", 1e-4, timings=both)
    found = fastest(beside([ours, numpy, torch]))
    assert {one.metric: one.framework for one in found} == {
        Metric.latency: "numpy",
        Metric.throughput: "torch",
    }


def test_a_failed_side_is_in_no_ratio() -> None:
    broken: dict[str, Any] = {"status": Status.failed, "error": Problem(type="X", message="why")}
    assert beside([jax_record(), peer_record("numpy", 1e-4, **broken)]) == []
    assert beside([jax_record(**broken), peer_record("numpy", 1e-4)]) == []


def test_who_sits_on_its_dispatch_floor_is_shown_and_a_jax_far_behind_is_marked(
    capsys: pytest.CaptureFixture[str],
) -> None:
    found = beside([jax_record(1e-4), peer_record("numpy", 1e-5, dispatch_floor_s={"latency": 0.9e-5})])
    assert found[0].on_floor == (False, True)
    show_peers(make_console(), found)
    table = capsys.readouterr().out
    assert "10.0 µs*" in table
    assert "behind!" in table
    assert "dispatch, not work" in table
    assert "1.25 times" in table
    assert "numpy 1.2, 4 threads" in table
    assert "| matvec 1024 | latency | 100.0 µs | numpy | 10.0 µs\\* |" in peers_markdown(found).replace(
        "100 µs", "100.0 µs"
    )


def test_records_that_ask_to_be_looked_at_twice_are_counted(capsys: pytest.CaptureFixture[str]) -> None:
    busy = Flag(name="host busy", metric=None, message="others used 1.9 cores")
    show_peers(
        make_console(), beside([jax_record(warnings=(busy,)), peer_record("numpy", 1e-4, warnings=())])
    )
    assert "look twice, of 2 records: host busy (1)" in capsys.readouterr().out


def test_an_interval_of_one_process_is_not_taken_for_one_over_passes(
    capsys: pytest.CaptureFixture[str],
) -> None:
    def told(found: list[Beside]) -> str:
        show_peers(make_console(), found)
        return capsys.readouterr().out

    within_one, other = "within one process: a rerun may land further off", make_case(2048)
    once = {"latency": noisy_timing(1e-4)}
    alone = beside([make_record(timings=once), peer_record("numpy", 1e-4, timings=once)])
    identity = {"case": other, "case_id": other.case_id, "pair_id": "other"}
    several = beside([jax_record(**identity), peer_record("numpy", 1e-4, **identity)])
    assert alone[0].judged.ci95
    assert f"intervals: 95%, {within_one}" in told(alone)
    assert within_one not in told(several)
    both = told([*alone, *several])
    assert f"{ONE_PROCESS} {within_one}" in both
    assert [line.count(f"]{ONE_PROCESS}") for line in both.splitlines() if "numpy  " in line] == [1, 0]


# --- nobody takes them for JAX's -------------------------------------------------------------------


def test_records_written_before_there_were_peers_are_jaxs() -> None:
    known = json.loads(encode_record(make_record()))
    del known["arm"]["framework"]
    assert decode_record(json.dumps(known)).arm.framework == JAX


def test_a_case_and_device_of_another_framework_is_another_arm() -> None:
    def tally(framework: str) -> Tally:
        arm = Arm(case=make_case(), device="cpu", target="x:Y", framework=framework)
        found = Tally(arm, Stop(relative_ci=0.01, limit_s=1), Command(line="", sweep_id=""))
        found.met(started("cpu"))
        return found

    assert tally("numpy").arm_id != tally(JAX).arm_id
    failed = tally("numpy")
    failed.ended(failure("X", "why"))
    assert failed.record(0.0).arm.framework == "numpy"


def test_a_peers_record_is_gone_on_with_though_it_has_no_compilation() -> None:
    arm = Arm(case=make_case(), device="cpu", target="x:Y", framework="numpy")
    stop = Stop(relative_ci=0.01, limit_s=1)
    metrics = [Metric.latency]
    first = Tally(arm, stop, Command(line="", sweep_id="1"), metrics=metrics)
    first.met(started("cpu"))
    facts = opened("cpu")
    first.opened(replace(facts, compile=None, arm=replace(facts.arm, framework="numpy")), 0.0)
    record = replace(first.record(0.0), timings={"latency": make_timing([[1e-4] * 15] * 6)}, status=Status.ok)
    again = Tally(arm, stop, Command(line="", sweep_id="2"), metrics=metrics, prior=record)
    again.met(started("cpu"))
    assert not again.lacks(0)


def test_records_of_peers_are_left_out_where_devices_are_compared(tmp_path: Path) -> None:
    ours, peer = jax_record(), peer_record("torch", 1e-6, started_at="2027-01-01T00:00:00+00:00")
    save_all([ours, peer], tmp_path)
    assert load_records([tmp_path]) == [ours]
    assert load_records([tmp_path], peers=True) == [ours, peer]
    (comparison,) = pair([ours, peer])
    assert comparison.cpu == ours


@pytest.mark.slow
@pytest.mark.parametrize("command", ["report", "advise"])
def test_commands_say_what_they_leave_out_and_refuse_what_has_nothing_else(
    command: str, tmp_path: Path
) -> None:
    def said(*records: Record) -> subprocess.CompletedProcess[str]:
        save_all(records, tmp_path)
        words = ["--format", "table"] if command == "report" else []
        return subprocess.run(
            [sys.executable, "-m", f"jaxaccel.{command}", str(tmp_path), *words],
            capture_output=True,
            text=True,
            check=False,
        )

    mixed = said(make_record(), make_record("gpu"), peer_record("torch", 1e-6))
    assert mixed.returncode == 0
    assert "left out: 1 records of torch: see python -m jaxaccel.peers report" in mixed.stderr
    alone = said(peer_record("torch", 1e-6))
    assert alone.returncode == 2
    assert "must hold records of JAX, got 1 records of torch" in alone.stderr


# --- which frameworks ------------------------------------------------------------------------------


def test_a_framework_that_there_is_not_is_refused_with_those_that_there_are() -> None:
    assert [framework.name for framework in chosen(["torch", "numpy"])] == ["numpy", "torch"]
    with pytest.raises(BadInputError, match=r"`peers.frameworks` must be some of numpy, torch.*got 'mxnet'"):
        chosen(["mxnet"])


def test_what_is_not_installed_is_named_with_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Library, "installed", property(lambda self: self.package != "torch"))
    assert missing_lines(chosen(["numpy", "torch", "torch_compile"])) == [
        "not measured, for torch is not installed: torch, torch_compile (pip install torch)"
    ]


def planned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *arguments: str) -> tuple[Any, list[str]]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["peers"])
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")
    return plan(compose(list(arguments), "0123abcd", ["peers=default"]))


def test_each_device_has_a_session_with_jax_and_the_peers_that_it_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Library, "installed", True)
    sessions, notes = planned(tmp_path, monkeypatch, "device=both", "dtype=bfloat16", "size=64")
    arms = {session.device: list(session.groups[0].arms) for session in sessions}
    assert arms == {
        "cpu": ["cpu", "cpu:torch", "cpu:torch_compile", "cpu:tensorflow"],
        "gpu": ["gpu", "gpu:torch", "gpu:torch_compile", "gpu:torch_cuda_graph", "gpu:torch_compile_graph"],
    }
    assert notes == ["not measured: numpy in bfloat16, of which it has no fast product"]
    assert sessions[0].groups[0].metrics == (Metric.latency, Metric.throughput, Metric.device)


@pytest.mark.slow
def test_a_training_is_held_against_frameworks_that_feed_it_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Library, "installed", True)

    def arms(feed: str, *more: str) -> tuple[dict[str, list[str]], list[str]]:
        words = ("workload=training", f"workload.feed={feed}", "device=both", *more)
        sessions, notes = planned(tmp_path, monkeypatch, *words)
        return {session.device: list(session.groups[0].arms) for session in sessions}, notes

    looped = ["numpy", "torch", "torch_compile", "tensorflow"]
    for feed in ("resident", "copied"):
        found, notes = arms(feed)
        assert found == {
            "cpu": ["cpu", *(f"cpu:{name}" for name in looped)],
            "gpu": ["gpu", "gpu:torch", "gpu:torch_compile"],
        }
        graphs = "torch_cuda_graph, torch_compile_graph"
        assert notes == [f"not measured with workload.feed={feed}, which they have not: {graphs}"]
    found, _ = arms("scan")
    assert found == {
        "cpu": ["cpu", "cpu:tensorflow"],
        "gpu": ["gpu", "gpu:torch_cuda_graph", "gpu:torch_compile_graph"],
    }
    monkeypatch.setattr(Library, "installed", property(lambda self: self.package == "numpy"))
    (session,), _ = planned(
        tmp_path, monkeypatch, "workload=training", "peers.frameworks=[numpy,torch,torch_cuda_graph]"
    )
    assert session.lacking == 1, "torch alone: a graph is not for batches that are copied"


def test_what_was_asked_for_by_name_and_is_not_installed_counts_as_not_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Library, "installed", property(lambda self: self.package == "numpy"))
    (session,), notes = planned(tmp_path, monkeypatch, "peers.frameworks=[numpy,torch]", "size=64")
    assert (list(session.groups[0].arms), session.lacking) == (["cpu", "cpu:numpy"], 1)
    assert notes == ["not measured, for torch is not installed: torch (pip install torch)"]
    (session,), notes = planned(tmp_path, monkeypatch, "size=64")
    assert session.lacking == 0  # whatever there is
    assert len(notes) == 2


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        (
            "workload=matmul",
            "`workload` must be one of matvec, dot, mlp, mlp_article, training here, got 'matmul'",
        ),
        ("device.cpu_cores=1", "`device.cpu_cores` must be null here, got 1"),
        ("device.flags.cpu={xla_cpu_use_thunk_runtime: true}", "`device.flags` is not for peers"),
        ("metrics=[h2d]", "`metrics` must have one of latency, throughput, device"),
        ("peers.frameworks=[mxnet]", "got 'mxnet'"),
        ("peers.frameworks=[torch_cuda_graph]", "must have one that runs on the cpu"),
        (
            "workload=training workload.feed=prefetched",
            "`workload.feed` must be one of resident, copied, scan for a peer on the cpu, got 'prefetched'",
        ),
        (
            "workload=training workload.feed=scan peers.frameworks=[numpy,torch]",
            "`workload.feed` must be one of resident, copied for a peer on the cpu, got 'scan'",
        ),
        ("peers.frameworks=numpy", "`peers.frameworks` must be a list"),
        ("peers.nothing=1", "peers.nothing"),
    ],
)
def test_what_is_not_for_peers_is_refused_in_one_line(
    argument: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(BadInputError) as error:
        planned(tmp_path, monkeypatch, *re.split(r" (?=[\w.]+=)", argument))
    assert message in str(error.value)
    assert "\n" not in str(error.value)


# --- workers ---------------------------------------------------------------------------------------


class FakeProcess:
    """A worker that tells what it was asked."""

    start_s = 2.0

    def __init__(self, device: str, library: str) -> None:
        self.device, self.library, self.alive = device, library, True

    def ready(self) -> Started | Failure:
        return started(self.device)

    def ask(self, request: Message) -> Message:
        return failure("X", self.library)

    def stop(self) -> None:
        self.alive = False


def test_workers_know_how_many_there_are_beside_them(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[Any] = []
    monkeypatch.setattr(launching, "Worker", lambda device, **given: told.append((device, given)))
    start = starter(["gpu", "gpu:torch", "gpu:torch_compile", "gpu"])
    start("gpu", JAX)
    start("gpu", "torch")
    assert [(device, given["variables"][COMPANIONS]) for device, given in told] == [("gpu", "1")] * 2
    assert told[1][1]["command"] == ("jaxaccel.peers.worker", "torch")


def test_arms_of_one_library_share_a_worker_until_the_last_of_them_leaves() -> None:
    begun: list[FakeProcess] = []

    def start(device: str, library: str) -> FakeProcess:
        begun.append(FakeProcess(device, library))
        return begun[-1]

    launch = SharedLauncher(start)
    names = [arm_name("cpu", name) for name in (JAX, "torch", "torch_compile")]
    assert names == ["cpu", "cpu:torch", "cpu:torch_compile"]
    assert [parts(name) for name in names] == [("cpu", JAX), ("cpu", "torch"), ("cpu", "torch_compile")]
    shares = [launch(name) for name in names]
    assert [process.library for process in begun] == [JAX, "torch"]
    assert [share.start_s for share in shares] == [2.0, 2.0, 0.0]  # a start is told once
    shares[1].stop()
    shares[1].stop()
    assert begun[1].alive
    shares[2].stop()
    assert not begun[1].alive
    assert begun[0].alive
    launch("cpu:torch")
    assert len(begun) == 3  # of the next pass
    begun[2].alive = False
    launch("cpu:torch_compile")
    assert len(begun) == 4  # in place of one that died
    launch.stop()
    assert not any(process.alive for process in begun)


def answers(framework: str) -> Any:
    library = FRAMEWORKS[framework].library
    if not LIBRARIES[library].installed:
        pytest.skip(f"{library} is not installed")
    return make_answer(*connect("cpu", library, {"packages": {}})[:2])


def case_of(workload: str, size: int, **changes: Any) -> Case:
    given = {"dtype": "float32", "precision": "highest", "variant": "direct"} | changes
    return Case(workload=workload, size=size, **given)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of PyTorch's own, where it is installed
@pytest.mark.parametrize("framework", INSTALLED)
@pytest.mark.parametrize(
    "case",
    [
        case_of("matvec", 96),
        case_of("dot", 1000),
        case_of("mlp", 24, params={"batch": 8}),
        case_of("mlp_article", 50),
    ],
    ids=lambda case: case.workload,
)
def test_a_peer_computes_the_workload_and_is_timed(framework: str, case: Case) -> None:
    """That its answer is right, the workload's own `verify` says: of an mlp, of loss and gradients."""
    from jaxaccel.records.messages import encode_message

    answer = answers(framework)
    arm = Arm(case=case, device="cpu", target=TARGETS[case.workload], framework=framework)
    facts = answer(encode_message(Open(key="a", arm=arm)))
    assert isinstance(facts, Opened), facts
    assert facts.arm.framework == framework
    assert facts.accuracy.ok
    assert set(facts.floor_s) == {"latency", "throughput"}
    for metric in (Metric.latency, Metric.throughput):
        found = answer(encode_message(AskRound(key="a", metric=metric)))
        assert isinstance(found, Round)
        assert min(found.samples_s) > 0
    answer(encode_message(Close(key="a")))


TRAININGS = [
    (name, feed) for name, framework in FRAMEWORKS.items() for feed in framework.feeds if name in INSTALLED
]


def training_arm(framework: str, feed: str) -> Arm:
    case = case_of("training", 8, params={"batch": 64, "epochs": 3, "feed": feed})
    return Arm(case=case, device="cpu", target=TARGETS["training"], framework=framework)


@cache
def losses_of_jax() -> Any:
    """The losses of an epoch each, and the accuracy on held-out data, of the training below."""
    import jax

    from jaxaccel.worker.arm import OpenArm

    arm = OpenArm(training_arm(JAX, "resident"), jax.devices()[0], facts_of("cpu"), {})
    return arm.facts.series["loss"], arm.facts.results


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of PyTorch's own, where it is installed
@pytest.mark.parametrize(("framework", "feed"), TRAININGS)
def test_a_peer_trains_as_jax_does_however_it_is_fed(framework: str, feed: str) -> None:
    from jaxaccel.records.messages import encode_message

    answer = answers(framework)
    facts = answer(encode_message(Open(key="a", arm=training_arm(framework, feed))))
    assert isinstance(facts, Opened), facts
    assert facts.accuracy.ok
    assert facts.accuracy.reference == "NumPy float64, the losses of 21 of 21 steps"
    losses, results = losses_of_jax()
    # TensorFlow has Adam's epsilon beside a square root that is not corrected.
    assert facts.series["loss"] == pytest.approx(losses, rel=1e-3)
    assert losses[2] < losses[0]
    assert facts.results == results
    assert (facts.cost.steps, facts.arm.framework) == (7, framework)
    found = answer(encode_message(AskRound(key="a", metric=Metric.latency)))
    assert isinstance(found, Round)
    assert min(found.samples_s) > 0


def test_a_training_by_another_rate_is_no_measurement(monkeypatch: pytest.MonkeyPatch) -> None:
    from jaxaccel.peers.worker import with_numpy
    from jaxaccel.worker.timing import InvariantError
    from jaxaccel.workloads.mlp import LEARNING_RATE

    monkeypatch.setattr(with_numpy, "learning_rate", lambda: 1.1 * LEARNING_RATE)
    with pytest.raises(InvariantError, match=r"differs from NumPy float64, the losses of 7 of 21 steps"):
        PeerArm(training_arm("numpy", "copied"), NumpyLibrary("cpu"), facts_of("cpu"), {})


def test_a_worker_refuses_a_feed_that_its_framework_has_not() -> None:
    from jaxaccel.worker.checks import RefusedError

    with pytest.raises(RefusedError, match="of numpy must be one of resident, copied, got 'scan'"):
        PeerArm(training_arm("numpy", "scan"), NumpyLibrary("cpu"), facts_of("cpu"), {})


@pytest.mark.parametrize(
    ("feed", "said"),
    [
        ("resident", ["place a", "place b", "epoch", "step a", "step b", "epoch", "step a", "step b"]),
        ("copied", ["epoch", *(each := ["place a", "step a", "place b", "step b"]), "epoch", *each]),
    ],
)
def test_batches_are_placed_beforehand_or_each_before_its_step(feed: str, said: list[str]) -> None:
    log: list[str] = []

    def place(batch: str) -> list[str]:
        log.append(f"place {batch}")
        return [batch]

    def step(batch: str) -> str:
        log.append(f"step {batch}")
        return batch

    epoch = fed_epoch(feed, ["a", "b"], place, step)
    for _ in range(2):
        log.append("epoch")
        assert epoch() == ["a", "b"]
    assert log == said


class Wrong(NumpyLibrary):
    """NumPy that makes a mistake."""

    def program(self, framework: str, workload: Any, case: Case, inputs: Any) -> Any:
        program = super().program(framework, workload, case, inputs)
        return replace(program, fetch=lambda result: 1.01 * np.asarray(result))


class FakeCuda:
    """As much of torch.cuda as it takes to capture a graph, which then knows nothing of what it works on."""

    def __init__(self) -> None:
        self.cuda, self.CUDAGraph, self.replays = self, lambda: self, 0

    Stream = current_stream = lambda self: self
    stream = graph = lambda self, _: nullcontext()

    def wait_stream(self, _: Any) -> None:
        """Nothing to wait for."""

    def replay(self) -> None:
        self.replays += 1


def test_what_a_graph_works_on_lives_as_long_as_the_graph() -> None:
    library = object.__new__(TorchLibrary)
    library._torch = torch = FakeCuda()
    array = np.ones(3)
    there, calls = weakref.ref(array), []

    def call(array: Any = array) -> float:
        calls.append(None)
        return float(array.sum())

    replay = library._captured(call, call)
    del array, call
    gc.collect()
    assert there() is not None
    assert len(calls) == WARM_CALLS + 1
    assert (replay(), replay()) == (3.0, 3.0)
    assert torch.replays == 2
    assert len(calls) == WARM_CALLS + 1
    del replay
    gc.collect()
    assert there() is None


def test_a_wrong_answer_is_no_measurement() -> None:
    from jaxaccel.worker.timing import InvariantError

    arm = Arm(case=case_of("matvec", 96), device="cpu", target=TARGETS["matvec"], framework="numpy")
    with pytest.raises(InvariantError, match="the output of numpy differs"):
        PeerArm(arm, Wrong("cpu"), facts_of("cpu"), {})


def test_steps_in_numpy_are_those_of_optax() -> None:
    """After five steps the losses are those that JAX has: Adam's update is right too, not only gradients."""
    import jax

    from jaxaccel.peers.worker.program import parameters
    from jaxaccel.workloads.mlp import Mlp

    workload = Mlp(size=16, batch=8)
    leaves, x, y = workload.inputs(0)
    training = Training(parameters(leaves, workload.widths), "float32")
    step, ours, theirs = jax.jit(workload.function), [], []
    for _ in range(5):
        leaves, loss = step(leaves, x, y)
        ours.append(float(loss))
        theirs.append(float(training.step(x, y)))
    assert theirs == pytest.approx(ours, rel=1e-5)
    assert ours[4] < ours[0]


@pytest.mark.slow
@pytest.mark.parametrize("framework", ["torch", "tensorflow"])
def test_a_library_that_is_not_there_is_a_failure_and_not_another_device(framework: str) -> None:
    library = LIBRARIES[FRAMEWORKS[framework].library]
    if library.installed:
        pytest.skip(f"{library.package} is installed")
    done = subprocess.run(
        [sys.executable, "-m", "jaxaccel.peers.worker", "cpu", library.package],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert f"No module named '{library.package}'" in json.loads(done.stdout)["body"]["error"]["message"]


# --- the command -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A folder of results, and what was said, of JAX and NumPy on the article's mlp."""
    here = tmp_path_factory.mktemp("peers")
    words = [*QUICK[:-1], "workload=mlp_article", "metrics=[latency]", "peers.frameworks=[numpy]", "size=50"]
    done = subprocess.run(
        [sys.executable, "-m", "jaxaccel.peers", *words],
        cwd=here,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    (folder,) = here.glob("outputs/*/*")
    return folder, done.stdout


@pytest.mark.slow
def test_a_command_measures_jax_and_its_peers_in_turn(measured: tuple[Path, str]) -> None:
    folder, said = measured
    records = {record.arm.framework: record for record in load_records([folder], peers=True)}
    assert set(records) == {JAX, "numpy"}
    assert all(record.ok and record.paired for record in records.values())
    assert len({record.pair_id for record in records.values()}) == 1
    told = records["numpy"].environment
    assert told["packages"]["numpy"] == np.__version__ == told["framework"]["version"]
    assert told["framework"]["threads"] is None or told["framework"]["threads"] >= 1
    assert records["numpy"].absent["compile"]
    assert "numpy" in said
    assert f"Records: {folder}" in said


def test_a_report_says_what_the_command_said(
    measured: tuple[Path, str], capsys: pytest.CaptureFixture[str]
) -> None:
    folder, said = measured
    assert main(["report", str(folder)]) == 0
    assert capsys.readouterr().out.strip() in said


def test_a_report_needs_jax_and_a_peer(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save_all([make_record()], tmp_path)
    assert main(["report", str(tmp_path)]) == 2
    assert "must hold records of JAX and of a peer" in capsys.readouterr().err


def test_help_names_all_frameworks(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    said = capsys.readouterr().out
    assert ",".join(FRAMEWORKS) in said
    assert set(KINDS) == set(LIBRARIES)
    assert ", ".join(FRAMEWORKS) in (ROOT / "conf/peers/default.yaml").read_text()


@pytest.mark.slow
def test_the_lines_of_a_file_are_measured_in_one_session_and_gone_on_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["peers"])
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")
    (tmp_path / "cases.txt").write_text(
        "# two\nworkload=matvec size=8,16\n\nworkload=dot size=8 device=gpu\n"
    )
    (tmp_path / "there").mkdir()
    words = ["-m", "cases=cases.txt", "peers.frameworks=[numpy,torch]", "passes=2", "resume=there"]
    composed = compose_all(words, "0123abcd")
    assert composed.folder == tmp_path / "there"
    assert [(job.config.workload.name, job.config.size, job.config.devices) for job in composed.jobs] == [
        ("matvec", 8, ("cpu",)),
        ("matvec", 16, ("cpu",)),
        ("dot", 8, ("gpu",)),
    ]
    assert {job.config.passes for job in composed.jobs} == {2}
    folders = [job.folder for job in composed.jobs]
    assert len(set(folders)) == 3
    assert {folder.parent for folder in folders} == {composed.folder}
    # What was measured there is given to the session, each framework's to its own arm.
    monkeypatch.setattr(Library, "installed", True)
    case = composed.jobs[0].config.case
    priors = [
        make_record(case=case, case_id=case.case_id),
        peer_record("numpy", 1e-4, case=case, case_id=case.case_id),
    ]
    save_all(priors, composed.folder)
    sessions, _ = plan(composed)
    assert [session.device for session in sessions] == ["cpu", "gpu"]
    assert sessions[0].groups[0].prior == {"cpu": priors[0], "cpu:numpy": priors[1]}
    assert list(sessions[0].groups[0].arms) == ["cpu", "cpu:numpy", "cpu:torch"]


@pytest.mark.parametrize(
    "text", [None, "# nothing\n", "workload='matvec\n", "workload=dot size=8\nworkload=nothing\n"]
)
def test_a_file_of_cases_that_says_nothing_right_is_refused_and_leaves_nothing(
    text: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["peers"])
    if text is not None:
        (tmp_path / "cases.txt").write_text(text)
    with pytest.raises(BadInputError, match=r"`cases` must be a file|`workload` must be one of"):
        compose_all(["cases=cases.txt"], "0123abcd")
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and path.name != "cases.txt"]

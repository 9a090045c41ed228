"""variant=best: which variants are tried, which are left out and why, and that one is kept for all passes."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from fakes import FakeLab, FakeMeter, FakeWatcher, make_case, make_group

from jaxaccel.records import BEST, Arm, ArmFacts, Case, Metric, Record, Trial, decode_record, encode_record
from jaxaccel.records.messages import Message, Open, Opened
from jaxaccel.session.arm_run import Command
from jaxaccel.session.session import Plan, measure
from jaxaccel.worker import best
from jaxaccel.worker.arm import BLOCKED, OpenArm
from jaxaccel.worker.best import candidates
from jaxaccel.worker.checks import RefusedError
from jaxaccel.worker.hlo import outline
from jaxaccel.worker.timing import InvariantError
from jaxaccel.workloads.matvec import Matvec, direct, multiply_reduce, row_parallel

SIZE = 40
HERE = f"{__name__}:"


def slowly(seconds: float, a: jax.Array, x: jax.Array) -> jax.Array:
    def waits(value: Any) -> Any:
        time.sleep(seconds)
        return np.asarray(value)

    # The seconds are in the program too: by their callbacks alone, two of them would be one.
    product = multiply_reduce(a, x * np.float32(1 + seconds)) / np.float32(1 + seconds)
    return jax.pure_callback(waits, jax.ShapeDtypeStruct(x.shape, x.dtype), product)


def wrong(a: jax.Array, x: jax.Array) -> jax.Array:
    return 1.01 * (a @ x)


def broken(a: jax.Array, x: jax.Array) -> jax.Array:
    raise KeyError("what nobody thought of")


@dataclass(frozen=True, kw_only=True)
class Several(Matvec):
    """One of each kind. What is right is told from what is slow by far, whatever else this machine does."""

    variants: ClassVar[Mapping[str, Callable[..., Any]]] = {
        "slow": partial(slowly, 0.02),
        "direct": direct,
        "hopeless": partial(slowly, 0.5),
        "row_parallel": row_parallel,
        "wrong": wrong,
        "broken": broken,
    }


@dataclass(frozen=True, kw_only=True)
class AllWrong(Matvec):
    """None is right."""

    variants: ClassVar[Mapping[str, Callable[..., Any]]] = {"wrong": wrong, "broken": broken}


@dataclass(frozen=True, kw_only=True)
class Alone(Matvec):
    """There is no choice."""

    variants: ClassVar[Mapping[str, Callable[..., Any]]] = {"direct": direct}


def arm_of(target: str, *, chosen: str | None = None, **changes: Any) -> Arm:
    known: dict[str, Any] = {"dtype": "float32", "precision": "highest", "variant": BEST, "size": SIZE}
    case = Case(workload="matvec", **known | changes)
    return Arm(case=case, device="cpu", target=target, chosen=chosen)


def open_arm(target: str, **changes: Any) -> OpenArm:
    return OpenArm(arm_of(target, **changes), jax.devices()[0], ArmFacts(requested="cpu"), {}, BLOCKED)


# --- choosing --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def several() -> OpenArm:
    return open_arm(f"{HERE}Several")


@pytest.mark.slow
def test_the_fastest_of_those_that_are_right_is_kept_and_timed(several: OpenArm) -> None:
    facts = several.facts
    assert facts.arm.variant == "direct"
    assert facts.accuracy.ok
    found = several.round(Metric.latency)
    assert np.median(found.samples_s) < 0.02  # type: ignore[union-attr]  # the slow ones take longer


def test_each_variant_is_told_of_with_its_time_or_the_reason_why_it_is_out(several: OpenArm) -> None:
    trials = several.facts.variants
    assert list(trials) == list(Several.variants)
    assert {name for name, trial in trials.items() if trial.ok} == {"slow", "direct"}
    assert trials["slow"].time_s > 0.02 > trials["direct"].time_s > 0  # type: ignore[operator]
    reasons = {name: trial.reason for name, trial in trials.items() if trial.reason}
    assert reasons["hopeless"].startswith("its first calls took ")
    assert trials["hopeless"].time_s > 0.5  # type: ignore[operator]
    assert reasons["row_parallel"] == "XLA makes the same program of it as of direct"
    assert "differs from NumPy float64" in reasons["wrong"]
    assert "what nobody thought of" in reasons["broken"]
    assert set(reasons) == {"hopeless", "row_parallel", "wrong", "broken"}


def test_where_none_is_right_the_arm_fails_as_the_first_does() -> None:
    with pytest.raises(InvariantError, match="differs from NumPy float64"):
        open_arm(f"{HERE}AllWrong")


def test_a_variant_by_its_name_tries_nothing() -> None:
    assert open_arm("jaxaccel.workloads.matvec:Matvec", variant="row_loop").facts.variants == {}


@pytest.mark.parametrize(
    ("target", "changes", "words"),
    [
        (f"{HERE}Alone", {}, "`workload.variant`=best needs variants to choose from, .* has direct only"),
        ("jaxaccel.workloads.matvec:Matvec", {"params": {"depth": 3}}, "unknown key `workload.depth`"),
        ("jaxaccel.workloads.matvec:Nothing", {}, "`workload._target_`"),
        ("jaxaccel.workloads.mlp:Mlp", {"params": {"batch": 0}}, "`workload.batch` must be a positive"),
    ],
)
def test_what_can_not_be_chosen_from_is_refused(target: str, changes: dict[str, Any], words: str) -> None:
    with pytest.raises(RefusedError, match=words):
        candidates(arm_of(target, **changes))


def test_an_unknown_variant_is_told_of_best_where_there_is_a_choice() -> None:
    with pytest.raises(ValueError, match="one of direct, multiply_reduce, row_loop, row_parallel, best, got"):
        Matvec(size=4, variant="fastest")


def test_variants_that_do_not_do_what_is_asked_for_are_left_out_with_the_reason() -> None:
    found = candidates(arm_of("jaxaccel.workloads.mlp:Mlp", params={"steps": 5}))
    assert list(found.workloads) == ["scan"]
    assert "needs workload.variant=scan" in (found.left_out["direct"].reason or "")


@pytest.mark.slow
def test_a_training_begins_anew_for_each_variant_and_for_what_is_timed() -> None:
    """A donated carry moves on: tried on what another left, the answer would be another one."""
    facts = open_arm("jaxaccel.workloads.mlp:Mlp", size=8, params={"batch": 4}).facts
    plain = open_arm("jaxaccel.workloads.mlp:Mlp", size=8, params={"batch": 4}, variant="direct").facts
    assert {name: trial.ok for name, trial in facts.variants.items()} == {"direct": True, "scan": True}
    assert facts.series["loss"][:5] == pytest.approx(plain.series["loss"][:5], rel=1e-5)


def test_all_rounds_of_a_choice_are_taken_in_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    class Scripted:
        def __init__(self, name: str, took_s: float) -> None:
            self.name, self.took_s = name, took_s

        def warm_up(self) -> None:
            asked.append(f"warm {self.name}")

        def round(self, metric: Metric) -> Any:
            asked.append(f"{metric} {self.name}")
            return type("Round", (), {"samples_s": (self.took_s, 9.0, self.took_s)})

    found = best._timed({"a": Scripted("a", 2.0), "b": Scripted("b", 1.0)}, Metric.throughput)  # type: ignore[dict-item]
    assert found == {"a": 2.0, "b": 1.0}
    assert asked == ["warm a", "warm b", *["throughput a", "throughput b"] * best.ROUNDS]


def test_one_program_is_told_by_whatever_names() -> None:
    def text(function: Callable[..., Any]) -> list[str]:
        a, x = jnp.ones((8, 8)), jnp.ones(8)
        return outline(jax.jit(function).lower(a, x).compile().as_text())

    assert text(direct) == text(lambda matrix, vector: matrix @ vector)
    assert text(direct) != text(multiply_reduce)
    assert text(direct) != text(lambda a, x: a @ (2 * x))


# --- over passes -----------------------------------------------------------------------------------


class ChoosingLab(FakeLab):
    """Its workers choose another variant each time that they are free to."""

    def __init__(self) -> None:
        super().__init__()
        self.free = iter(["multiply_reduce", "direct", "row_loop"])

    def launch(self, device: str) -> Any:
        worker = super().launch(device)
        plain = worker.ask

        def ask(request: Message) -> Message:
            reply = plain(request)
            if not (isinstance(request, Open) and isinstance(reply, Opened)):
                return reply
            name = request.arm.chosen or next(self.free)
            trials = {} if request.arm.chosen else {name: Trial(time_s=1e-3, ok=True)}
            return replace(reply, arm=replace(reply.arm, variant=name), variants=trials)

        worker.ask = ask
        return worker


def measured(lab: FakeLab, passes: int, prior: Record | None = None) -> Record:
    group = make_group(make_case(variant=BEST), "cpu", passes=passes)
    if prior:
        group.prior["cpu"] = prior
    plan = Plan(groups=[group], command=Command(line="run", sweep_id="s"), meter=FakeMeter())
    return [record for _, record in measure(plan, lab.launch, FakeWatcher())][-1]


def test_all_passes_are_of_what_the_first_one_chose() -> None:
    lab = ChoosingLab()
    record = measured(lab, passes=3)
    chosen = [request.arm.chosen for _, request in lab.requests if isinstance(request, Open)]
    assert chosen == [None, "multiply_reduce", "multiply_reduce"]
    assert record.arm.variant == "multiply_reduce"
    assert record.variants == {"multiply_reduce": Trial(time_s=1e-3, ok=True)}
    assert record.case.variant == BEST
    assert decode_record(encode_record(record)) == record


def test_a_run_that_goes_on_stays_with_what_was_chosen() -> None:
    prior = measured(ChoosingLab(), passes=1)
    lab = ChoosingLab()
    record = measured(lab, 2, prior)
    assert [r.arm.chosen for _, r in lab.requests if isinstance(r, Open)] == ["multiply_reduce"]
    assert (record.arm.variant, record.variants) == (prior.arm.variant, prior.variants)


def test_other_variants_are_opened_as_they_are() -> None:
    lab = FakeLab()
    group = make_group(make_case(), "cpu", passes=2)
    plan = Plan(groups=[group], command=Command(line="run", sweep_id="s"), meter=FakeMeter())
    list(measure(plan, lab.launch, FakeWatcher()))
    assert {r.arm.chosen for _, r in lab.requests if isinstance(r, Open)} == {None}

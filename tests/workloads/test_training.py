"""A whole training: its data, its reference, how it is fed and followed, and what records of it say."""

import re
import threading
import weakref
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import cache, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from fakes import FakeClock, make_case, make_record
from known_pairs import EPOCH_S, training_record

from jaxaccel.analyze.compare import pair
from jaxaccel.analyze.training import Overlap, curves, feed_speedup, overlap, trainings
from jaxaccel.records import NO_TRANSFER, Accuracy, Arm, ArmFacts, Case, Metric, Verdict
from jaxaccel.records.messages import Round
from jaxaccel.render.terminal.markdown import markdown
from jaxaccel.render.words import training as words
from jaxaccel.render.words.sections import as_text
from jaxaccel.wandb.point_run import point, point_summary
from jaxaccel.worker.arm import OpenArm
from jaxaccel.worker.feeding import COPIES, FED, PREPARED_EPOCHS, PREPARED_S, host_work_s
from jaxaccel.worker.program import compile_function
from jaxaccel.worker.timing import InvariantError
from jaxaccel.workloads import exact_training, feeds, tumours
from jaxaccel.workloads.mlp import LEARNING_RATE
from jaxaccel.workloads.training import Training, expected, norms_apart

SMALL: dict[str, Any] = {"size": 8, "batch": 64, "epochs": 3}
BATCHES = 7  # of an epoch


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    """The next test begins with 32 bits."""
    yield
    jax.config.update("jax_enable_x64", False)


# --- the data --------------------------------------------------------------------------------------


def test_held_out_samples_are_not_trained_on_and_not_known_beforehand() -> None:
    data = tumours.split(0)
    assert (len(data.train), len(data.held_out)) == (448, 121)
    assert sorted([*data.train, *data.held_out]) == [*range(569)]
    trained = data.standardised(data.train)
    np.testing.assert_allclose(trained.mean(axis=0), 0, atol=1e-12)
    np.testing.assert_allclose(trained.std(axis=0), 1, atol=1e-12)
    assert np.abs(data.standardised(data.held_out).mean(axis=0)).max() > 0.01


def test_the_split_depends_on_the_seed_alone() -> None:
    assert np.array_equal(tumours.split(1).train, tumours.split(1).train)
    assert set(tumours.split(1).held_out) != set(tumours.split(2).held_out)


def test_a_batch_is_prepared_to_the_same_bits_each_time_and_its_copies_are_jittered() -> None:
    data = tumours.split(0)
    prepare = tumours.preparation(data, batch=32, copies=3, dtype="float32", seed=0)
    (x, y), (again, _), (other, _) = prepare(1), prepare(1), prepare(2)
    assert x.shape == (96, 10)
    assert np.array_equal(x, again)
    assert not np.array_equal(x, other)
    exact = data.standardised(data.train[32:64]).astype(np.float32)
    assert np.array_equal(x[:32], exact)
    for start in (32, 64):
        apart = np.abs(x[start : start + 32] - exact)
        assert 0 < apart.max() <= tumours.JITTER * 1.001
    assert not np.array_equal(x[32:64], x[64:])
    assert np.array_equal(y, np.tile(data.labels[data.train[32:64]], 3))


# --- the reference ---------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_reference_trains_as_jax_and_optax_do_in_float64() -> None:
    jax.config.update("jax_enable_x64", True)
    rng = np.random.default_rng(0)
    kernels = [rng.normal(size=shape) for shape in ((4, 5), (5, 3), (3, 1))]
    biases = [rng.normal(size=shape[1]) for shape in ((4, 5), (5, 3), (3, 1))]
    batches = [(rng.normal(size=(6, 4)), (rng.random(6) > 0.5).astype(np.float64)) for _ in range(5)]

    def loss(params: Any, x: jax.Array, y: jax.Array) -> jax.Array:
        for at, (w, b) in enumerate(zip(*params, strict=True)):
            x = (jnp.maximum(x, 0) if at else x) @ w + b
        return optax.sigmoid_binary_cross_entropy(x[:, 0], y).mean()

    params, adam = (kernels, biases), optax.adam(0.1)
    state, wanted = adam.init(params), []
    for x, y in batches:
        value, gradients = jax.value_and_grad(loss)(params, x, y)
        updates, state = adam.update(gradients, state)
        params = optax.apply_updates(params, updates)
        wanted.append(float(value))
    # Optax's corrections are float32's, of whose type its decay rates are.
    assert exact_training.losses(kernels, biases, batches, 0.1) == pytest.approx(wanted, rel=1e-4)
    assert wanted[0] != pytest.approx(wanted[-1], rel=0.1), "nothing was trained"


def test_a_large_product_is_that_of_a_small_one(monkeypatch: pytest.MonkeyPatch) -> None:
    a, b = np.arange(6.0).reshape(2, 3), np.arange(12.0).reshape(3, 4)
    small = exact_training.product(a, b)
    monkeypatch.setattr(exact_training, "_SMALL", 1)
    assert np.array_equal(small, exact_training.product(a, b))


# --- ways to feed ----------------------------------------------------------------------------------


@dataclass
class Log:
    """A source, steps and what they give, that write down what is called when."""

    said: list[str] = field(default_factory=list)

    def prepare(self, number: int) -> Any:
        self.said.append(f"prepare {number}")
        return number, number

    def place(self, batch: Any) -> Any:
        self.said.append(f"send {batch[0]}")
        return Given(self, f"batch {batch[0]}"), batch[1]

    def step(self, leaves: int, x: Any, y: int) -> Any:
        self.said.append(f"step {y}")
        return leaves + 1, Given(self, f"loss {y}")

    @property
    def source(self) -> feeds.Source:
        return feeds.Source(ready=[(n, n) for n in range(3)], prepare=self.prepare, place=self.place)


@dataclass
class Given:
    """What JAX gives before it is there."""

    log: Log
    name: str

    def block_until_ready(self) -> "Given":
        self.log.said.append(f"await {self.name}")
        return self


@pytest.mark.parametrize(
    ("feed", "order"),
    [
        ("resident", ["step 0", "step 1", "step 2"]),
        (
            "copied",
            [f"{did} {n}" for n in range(3) for did in ("send", "await batch", "step", "await loss")],
        ),
        ("prefetched", ["send 0", "step 0", "send 1", "step 1", "send 2", "step 2"]),
        (
            "serial",
            [
                f"{did} {n}"
                for n in range(3)
                for did in ("prepare", "send", "await batch", "step", "await loss")
            ],
        ),
        ("queued", [f"{did} {n}" for n in range(3) for did in ("prepare", "send", "step")]),
    ],
)
def test_each_feed_does_things_in_its_order(feed: str, order: list[str]) -> None:
    log = Log()
    epoch = feeds.LOOPS[feed](log.step, log.source)
    log.said.clear()  # what is resident has been sent beforehand
    leaves, losses = epoch(0)
    assert log.said == order
    assert (leaves, len(losses)) == (3, 3)


def test_overlapped_prepares_the_next_batch_while_a_step_runs() -> None:
    log, prepared = Log(), [threading.Event() for _ in range(3)]

    def prepare(number: int) -> Any:
        prepared[number].set()
        return number, number

    def step(leaves: int, x: Any, y: int) -> Any:
        if y < 2:
            assert prepared[y + 1].wait(20), "the next batch is prepared only after this step"
        return log.step(leaves, x, y)

    epoch = feeds.overlapped(step, replace(log.source, prepare=prepare))
    for _ in range(2):
        for event in prepared:
            event.clear()
        leaves, losses = epoch(0)
        assert (leaves, len(losses)) == (3, 3)
    in_turn = [f"{did} {n}" for n in range(3) for did in ("send", "await batch", "step", "await loss")]
    assert log.said == in_turn * 2


@cache
def trained(feed: str) -> np.ndarray:
    """The losses of two epochs on this CPU."""
    workload = Training(**SMALL, feed=feed)
    leaves, *rest = jax.device_put(workload.inputs(0), may_alias=False)
    compiled, _ = compile_function(workload.function, (leaves, *rest), "highest", carries=True)
    epoch = workload.epoch(compiled, partial(jax.device_put, device=jax.devices()[0]), 0)
    epoch = epoch or (lambda leaves: compiled(leaves, *rest))
    found = []
    for _ in range(2):
        leaves, losses = epoch(leaves)
        found.append(np.ravel(jax.device_get(losses)))
    return np.array(found, np.float64)


@pytest.mark.parametrize("feed", feeds.FEEDS)
def test_every_feed_trains_alike(feed: str) -> None:
    found = trained(feed)
    assert found.shape == (2, BATCHES)
    if feed == feeds.SCAN:  # another program
        assert found == pytest.approx(trained("resident"), rel=1e-5)
    else:
        assert np.array_equal(found, trained("resident"))


# --- what a training is held to --------------------------------------------------------------------


def right() -> tuple[Training, np.ndarray, list[np.ndarray]]:
    workload = Training(**SMALL)
    exact = expected(replace(workload, feed="scan"), 0, 2.0**-23)
    return workload, exact.reshape(-1, BATCHES), workload.inputs(0)[0]


def test_the_right_losses_are_accepted_and_told_by_epochs() -> None:
    workload, exact, leaves = right()
    found = workload.outcome(0, exact * (1 + 1e-6), leaves, "highest")
    assert found.accuracy.ok
    assert found.accuracy.relative_error == pytest.approx(1e-6, rel=0.01)
    assert found.accuracy.reference == "NumPy float64, the losses of 21 of 21 steps"
    assert found.series["loss"] == pytest.approx(exact.mean(axis=1), rel=1e-5)
    assert found.series["loss"][-1] < found.series["loss"][0]


def test_held_out_accuracy_is_of_the_leaves_that_were_given() -> None:
    workload, exact, leaves = right()
    untrained = workload.outcome(0, exact, leaves, "highest").results["held_out_accuracy"]
    data = tumours.split(0)
    benign = data.labels[data.held_out] > 0
    sure = [*leaves]
    for at, leaf in enumerate(leaves[:4]):
        if leaf.shape == (1,):  # a bias so large that all are told to be benign
            sure[at] = np.full(1, 1e6, np.float32)
    told = workload.outcome(0, exact, sure, "highest").results["held_out_accuracy"]
    assert told == pytest.approx(benign.mean())
    assert told != untrained


@pytest.mark.parametrize("wrong", ["rate", "order", "uncorrected", "not a number", "no update"])
def test_the_losses_of_another_training_are_rejected(wrong: str) -> None:
    workload, exact, leaves = right()
    batches = [*map(workload.prepare(0), range(BATCHES))] * 3
    kernels, biases = workload._layers(leaves)
    losses = partial(exact_training.losses, kernels, biases)
    found = {
        "rate": lambda: losses(batches, 1.05 * LEARNING_RATE),
        "order": lambda: losses(batches[::-1], LEARNING_RATE),
        # Decay rates of 0 in the corrections leave the moments as they are.
        "uncorrected": lambda: losses(
            batches, LEARNING_RATE, corrected_in=lambda value: value if value >= 1 else 0.0
        ),
        "no update": lambda: losses(batches, 0.0),
        "not a number": lambda: [*exact.ravel()[:-1], float("nan")],
    }[wrong]()
    assert not workload.outcome(0, np.reshape(found, (3, BATCHES)), leaves, "highest").accuracy.ok


def test_what_rounding_decides_is_not_compared() -> None:
    workload = Training(**SMALL, feed="scan", copies=2)
    whole = expected(workload, 0, 1e-7)
    assert len(whole) == 3 * BATCHES
    assert len(expected(workload, 0, 0.5)) < 3 * BATCHES, "weights that far off train otherwise"
    assert norms_apart(2 * whole, whole, BATCHES) == pytest.approx([1.0] * 3)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"batch": 449}, "`workload.batch` must be at most 448.*got 449"),
        ({"feed": "by hand"}, "`workload.feed` must be one of scan, resident.*got 'by hand'"),
        ({"copies": 0}, "`workload.copies` must be a positive whole number, got 0"),
        ({"epochs": 1.5}, "`workload.epochs` must be a positive whole number, got 1.5"),
    ],
)
def test_what_a_training_can_t_be_is_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Training(size=8, **arguments)


# --- as an arm -------------------------------------------------------------------------------------


def open_training(feed: str, metrics: Any = tuple(Metric)) -> OpenArm:
    params = {name: value for name, value in SMALL.items() if name != "size"} | {"feed": feed}
    case = Case(
        workload="training",
        size=SMALL["size"],
        dtype="float32",
        precision="highest",
        variant="direct",
        params=params,
    )
    arm = Arm(case=case, device="cpu", target="jaxaccel.workloads.training:Training")
    return OpenArm(arm, jax.devices()[0], ArmFacts(requested="cpu"), {}, metrics)


def test_a_fed_epoch_is_timed_as_a_call_and_what_it_can_t_tell_is_said() -> None:
    arm = open_training("serial")
    facts = arm.facts
    assert facts.metrics == (Metric.latency, Metric.throughput)
    assert {facts.absent["transfers"], facts.absent["timings.device"], facts.absent["timings.h2d"]} == {FED}
    assert facts.invariants[NO_TRANSFER] == COPIES
    assert (facts.cost.steps, facts.accuracy.ok) == (BATCHES, True)
    assert len(facts.series["loss"]) == 3
    assert min(facts.series["prepare_s"]) > 0
    assert 0 <= facts.results["held_out_accuracy"] <= 1
    for metric in facts.metrics:
        found = arm.round(metric)
        assert isinstance(found, Round)
        assert min(found.samples_s) > 0
    assert arm.inspect(0.0).absent["device_time"] == FED


def test_the_losses_that_are_told_are_those_of_the_timed_calls_from_the_start() -> None:
    arm = open_training("resident", (Metric.latency,))
    assert arm.facts.series["loss"][:2] == pytest.approx(trained("resident").mean(axis=1), rel=1e-7)
    assert "prepare_s" not in arm.facts.series
    assert arm.facts.invariants[NO_TRANSFER] == "passed"


def test_an_epoch_that_is_one_program_has_all_metrics() -> None:
    facts = open_training("scan", (Metric.latency, Metric.device, Metric.end_to_end)).facts
    assert facts.metrics == (Metric.latency, Metric.device, Metric.end_to_end)
    assert len(facts.series["loss"]) == 3
    assert facts.transfers.h2d_bytes == 448 * 11 * 4


def test_a_copy_that_a_feed_does_not_ask_for_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def careless(step: Any, source: feeds.Source) -> Any:
        def epoch(leaves: Any) -> Any:
            losses = []
            for batch in source.ready:
                leaves, loss = step(leaves, *batch)
                losses.append(loss)
            return leaves, losses

        return epoch

    monkeypatch.setitem(feeds.LOOPS, "copied", careless)
    arm = open_training("copied", (Metric.latency,))
    with pytest.raises(InvariantError, match="moves data"):
        arm.round(Metric.latency)


def test_a_feed_that_trains_on_other_batches_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(
        feeds.LOOPS,
        "copied",
        lambda step, source: feeds.copied(step, replace(source, ready=source.ready[:1] * source.count)),
    )
    with pytest.raises(InvariantError, match="differs from NumPy float64, the losses of 7 of 21 steps"):
        open_training("copied", (Metric.latency,))


@pytest.mark.parametrize(("work_s", "count"), [(0.0, PREPARED_EPOCHS), (PREPARED_S / 3, 3), (9.0, 1)])
def test_the_host_s_work_is_timed_for_so_many_epochs_or_so_long(work_s: float, count: int) -> None:
    clock = FakeClock()

    class Working:
        def host_work(self, seed: int) -> Callable[[], None]:
            return lambda: clock.advance(work_s)

    found = host_work_s(Working(), 0, clock)["prepare_s"]
    assert found == pytest.approx([work_s] * count)
    assert host_work_s(Training(**SMALL, feed="copied"), 0) == {}


def test_on_the_host_a_batch_is_gone_before_the_next_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    class Batch:
        pass

    alive, seen = weakref.WeakSet[Batch](), list[int]()

    def prepare(number: int) -> Batch:
        seen.append(len(alive))
        made = Batch()
        alive.add(made)
        return made

    monkeypatch.setattr(tumours, "preparation", lambda *_, **__: prepare)
    work = Training(**SMALL, feed="serial").host_work(0)
    assert work is not None
    work()
    assert seen == [0] * BATCHES


# --- what records say ------------------------------------------------------------------------------


def test_feeds_of_one_training_are_found_together_and_others_apart() -> None:
    records = [training_record(device, feed) for device in ("cpu", "gpu") for feed in EPOCH_S]
    other = make_case(51, workload="training", params={"batch": 32, "feed": "copied"})
    records += [make_record("cpu", case=other), make_record("cpu")]
    found = trainings(pair(records))
    assert sorted(sorted(each.feeds) for each in found) == [["copied"], sorted(EPOCH_S)]


def test_hidden_is_a_share_of_the_shorter_part() -> None:
    (training,) = trainings(pair([training_record("gpu", feed) for feed in EPOCH_S]))
    found = overlap(training, "gpu")
    assert found is not None
    assert (found.prepare_s, found.work_s, found.serial_s) == pytest.approx((3e-3, 4e-3, 7e-3))
    assert found.hidden("overlapped") == pytest.approx(0.9)
    assert found.hidden("queued") == pytest.approx(0.5)
    assert found.adds_up
    assert {gain.among for gain in found.gains.values()} == {2}, "both verdicts hold together"
    assert overlap(training, "cpu") is None
    text = as_text(words.sections(pair([training_record("gpu", feed) for feed in EPOCH_S])))
    told = "overlapped 4.30 ms (-39%, 1.63x [1.63, 1.63] as fast, within one process), which hides 90%"
    assert f"{told} of the shorter part" in text
    assert "90.0% of the samples held out are told rightly" in text
    assert words.ADDED.format(0.0) in text


def test_how_far_the_parts_are_off_the_whole_is_told_with_the_shares() -> None:
    found = Overlap(device="gpu", prepare_s=2.0, work_s=10.0, serial_s=11.5, hiding_s={"queued": 10.0})
    assert (found.left_over, found.adds_up, found.hidden("queued")) == (-0.25, True, 0.75)
    records = [training_record("gpu", feed) for feed in EPOCH_S if feed != "copied"]
    records.append(training_record("gpu", "copied", factor=0.9))  # 3.6 ms: 0.4 of 7 are in neither part
    assert words.ADDED.format(0.4 / 3) in as_text(words.sections(pair(records)))


def test_no_share_is_told_where_the_parts_do_not_add_up() -> None:
    found = Overlap(device="cpu", prepare_s=1.0, work_s=10.0, serial_s=20.0, hiding_s={"queued": 9.0})
    assert not found.adds_up
    records = [training_record("cpu", feed) for feed in EPOCH_S if feed != "copied"]
    records.append(training_record("cpu", "copied", factor=0.1))
    text = as_text(words.sections(pair(records)))
    assert words.NOISY in text
    assert "hides" not in text.replace("hides costs", "")


def test_no_share_is_told_of_a_difference_that_is_not_sure() -> None:
    def told(apart: float) -> str:
        records = [training_record("gpu", feed, apart=apart) for feed in EPOCH_S]
        return as_text(words.sections(pair(records)))

    assert "hides 90%" in told(0.01)
    assert words.ADDED.format(0.0) in told(0.01)
    # 7 ms against 4.3 in passes up to 30% apart: overlapping is sure, and what queueing gains is not.
    assert "hides 90%" in told(0.15)
    assert re.search(r"queued 5.50 ms \(-21%, 1.27x \[0.\d+, 1.\d+\] as fast, undecided\);", told(0.15))
    assert "hides" not in told(0.5)
    assert words.UNSURE in told(0.5)


def test_feeds_of_one_training_on_one_device_are_compared() -> None:
    serial, queued = (training_record("gpu", feed, apart=0.01) for feed in ("serial", "queued"))
    found = feed_speedup(serial, queued)
    assert found.ratio == pytest.approx(7 / 5.5)
    assert found.verdict is Verdict.gpu
    assert feed_speedup(queued, serial).verdict is Verdict.cpu
    of_torch = replace(queued, arm=replace(queued.arm, framework="torch"))
    elsewhere = replace(queued, environment={**queued.environment, "host_id": "another"})
    for other in (training_record("cpu", "queued"), make_record("gpu"), of_torch, elsewhere):
        with pytest.raises(ValueError, match="these differ in more than the feed"):
            feed_speedup(serial, other)


def test_curves_agree_within_what_each_may_be_off() -> None:
    reference = "NumPy float64, the losses of 2 of 28 steps"
    check = Accuracy(relative_error=0.0, tolerance=0.01, ok=True, reference=reference)
    cpu, gpu = (training_record(device, "copied", accuracy=check) for device in ("cpu", "gpu"))
    tolerance = cpu.accuracy.tolerance + gpu.accuracy.tolerance  # type: ignore[union-attr]
    near = curves(cpu, replace(gpu, series={"loss": (0.5, 0.25 * (1 - tolerance / 2))}))
    assert near is not None
    assert (near.epoch, near.agree) == (2, True)
    assert near.difference == pytest.approx(tolerance / 2, rel=1e-3)
    assert near.reference == reference
    far = replace(gpu, series={"loss": (0.6, 0.25)})
    found = curves(cpu, far)
    assert found is not None
    assert (found.epoch, found.agree) == (1, False)
    assert curves(cpu, None) is None
    assert curves(cpu, replace(gpu, series={})) is None
    # Of 28 steps two are checked: what comes after them may be apart by rounding, and no device is accused.
    text = as_text(words.sections(pair([cpu, far])))
    assert "more than is tolerated where they are checked; each may be half of" in text
    assert f"off {reference}" in text


def test_markdown_has_the_table_of_feeds() -> None:
    records = [
        training_record(device, feed, factor=factor)
        for device, factor in (("cpu", 2.0), ("gpu", 1.0))
        for feed in EPOCH_S
    ]
    text = markdown(records)
    assert "**training 50 batch=32**" in text
    (line,) = [line for line in text.splitlines() if line.startswith("| serial |")]
    cells = [cell.strip() for cell in line.strip("|").split("|")]
    assert cells[1:3] == ["14.0 ms", "7.00 ms"]
    assert cells[3].startswith("2x")
    assert cells[4:] == ["1.75x", "1.75x"]
    assert words.sections(pair([make_record("cpu")])) == []


def test_wandb_has_the_loss_as_history_and_the_accuracy_in_its_summary() -> None:
    record = training_record("gpu", "serial")
    assert point_summary(record)["result/held_out_accuracy"] == 0.9
    rows = point(record, "gpu").rows
    assert [row.get("training/loss") for row in rows] == [0.5, 0.25, None]

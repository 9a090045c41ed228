"""What a device can do, on devices whose rates are known: nothing is computed here."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from fakes import failure, make_case, opened, started

from jaxaccel.records import Case, Ceiling, Ceilings, Cost, Memory, Metric, Transfers
from jaxaccel.records.messages import (
    AskRound,
    Close,
    Closed,
    Failure,
    Message,
    Open,
    Opened,
    Round,
    Unavailable,
)
from jaxaccel.session.ceilings import (
    KINDS,
    LADDER_BYTES,
    MATMULS,
    TRANSFER_SHAPES,
    TRANSFERS,
    Book,
    Found,
    around,
)

KIB, MIB = 1024, 1024**2
NOON = datetime(2026, 1, 2, 12, tzinfo=UTC)
STREAM_BYTES_PER_S = {"read": 3e10, "copy": 2e10, "triad": 1e10}
TIMED = (Metric.device,)
REFUSED = failure("Refused", "does not fit", refused=True)


def words(case: Case) -> str:
    """`matmul 1024 float64 highest`, `stream read 16384`: a name short enough to arrange things by."""
    if case.workload == "stream":
        return f"stream {case.params['kind']} {case.size * 4 * KINDS[case.params['kind']]}"
    return f"{case.workload} {case.size} {case.dtype} {case.precision}"


@dataclass(kw_only=True)
class Device:
    """A worker whose device streams at rates of its own, and has `flops_per_s`.

    In `on_open`, `on_round`, by how the words of a case begin: what it answers instead; None: it dies.
    """

    name: str = "cpu"
    rate: Callable[[Case], float] = lambda case: STREAM_BYTES_PER_S[case.params["kind"]]
    slow: tuple[float, ...] = (1, 1, 10)
    flops_per_s: float = 1e12
    up_bytes_per_s: float = 1e10
    offers: tuple[Metric, ...] = tuple(Metric)
    on_open: dict[str, Failure | None] = field(default_factory=dict)
    on_round: dict[str, Message | None] = field(default_factory=dict)
    alive: bool = True
    opened: list[Case] = field(default_factory=list)
    rounds: list[tuple[str, Metric]] = field(default_factory=list)
    arms: dict[str, Case] = field(default_factory=dict)

    def ask(self, request: Message) -> Message:
        assert self.alive, "a dead worker was asked"
        match request:
            case Open():
                case_ = request.arm.case
                self.opened.append(case_)
                assert request.arm.device == self.name
                assert (
                    request.arm.target
                    == {
                        "stream": "jaxaccel.workloads.stream:Stream",
                        "matmul": "jaxaccel.workloads.matmul:Matmul",
                        "transfer": "jaxaccel.workloads.transfer:Transfer",
                    }[case_.workload]
                )
                answer = self._arranged(self.on_open, case_, lambda: self._opened(case_, request.metrics))
                if isinstance(answer, Opened):
                    assert self.arms == {}, "memory of another was not free"
                    self.arms[request.key] = case_
                return answer
            case AskRound():
                case_ = self.arms[request.key]
                self.rounds.append((words(case_), request.metric))
                assert request.metric in self.offers
                return self._arranged(self.on_round, case_, lambda: self._round(case_, request.metric))
            case Close():
                del self.arms[request.key]
                return Closed()
        raise AssertionError(f"a device is never asked {request}")

    def _arranged(self, what: Any, case: Case, otherwise: Callable[[], Message]) -> Message:
        name = next((name for name in what if words(case).startswith(name)), None)
        if name is None:
            return otherwise()
        if what[name] is None:
            self.alive = False
            return failure("WorkerDied", f"the {self.name} worker was ended by signal 9")
        return what[name]

    def _opened(self, case: Case, metrics: tuple[Metric, ...]) -> Opened:
        touched = case.size * 4 * (KINDS[case.params["kind"]] if case.workload == "stream" else 2)
        cost = Cost(flops=2.0 * case.size**3, bytes=touched)
        absent = {f"timings.{metric}": "not here" for metric in metrics if metric not in self.offers}
        return replace(
            opened(self.name, absent=absent),
            metrics=tuple(metric for metric in metrics if metric in self.offers),
            cost=cost,
            memory=Memory(predicted_bytes=touched, capacity_bytes=1 << 40, working_set_bytes=touched),
            transfers=Transfers(h2d_bytes=touched // 2, d2h_bytes=touched // 4, h2d="copied", d2h="copied"),
        )

    def _round(self, case: Case, metric: Metric) -> Round:
        if metric in TRANSFERS:
            moved = case.size * (4 if metric.startswith("h2d") else 2)
            time_s = moved / (self.up_bytes_per_s * (2 if metric.endswith("pinned") else 1))
        elif case.workload == "matmul":
            time_s = 2.0 * case.size**3 / self.flops_per_s
        else:
            time_s = case.size * 4 * KINDS[case.params["kind"]] / self.rate(case)
        # Neither the best nor the middle of them is one of those in which others had the machine.
        slow = self.slow[len(self.rounds) % len(self.slow)]
        return Round(samples_s=(slow * time_s,) * 15, depth=1, spent_s=0.01, warmup_s=0.0)


def look(
    book: Book,
    device: Device,
    working_set_bytes: int | None = 20 * KIB,
    *,
    case: Case | None = None,
    transfers: bool = True,
    again: bool = False,
    **environment: Any,
) -> Found:
    """What the book says of a case with this working set, on a device."""
    known = started(device.name)
    known = replace(known, environment={**known.environment, **environment})
    memory = Memory(predicted_bytes=1, capacity_bytes=1 << 40, working_set_bytes=working_set_bytes)
    moved = Transfers(h2d_bytes=1, d2h_bytes=1, h2d="copied", d2h="copied") if transfers else None
    facts = replace(opened(device.name), memory=memory, transfers=moved)
    return book.ceilings(device, known, facts, case or make_case(), again=again)


def at(moment: datetime = NOON, folder: Path | None = None, *, fresh: bool = False) -> Book:
    return Book(folder=folder, fresh=fresh, now=lambda: moment, host_free_bytes=lambda: 64 << 30)


def memory_of(found: Found) -> Ceiling:
    assert found.ceilings.memory is not None
    return found.ceilings.memory


def compute_of(found: Found) -> Ceiling:
    assert found.ceilings.compute is not None
    return found.ceilings.compute


# --- memory ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("working_set_bytes", "rungs"),
    [
        (0, [16 * KIB]),
        (16 * KIB - 1, [16 * KIB]),
        (16 * KIB, [16 * KIB, 32 * KIB]),
        (20 * KIB, [16 * KIB, 32 * KIB]),
        (32 * KIB - 1, [16 * KIB, 32 * KIB]),
        (32 * KIB, [32 * KIB, 64 * KIB]),
        (1024 * MIB - 1, [512 * MIB, 1024 * MIB]),
        (1024 * MIB, [1024 * MIB]),
        (10**15, [1024 * MIB]),
    ],
)
def test_the_rungs_of_a_working_set_enclose_it(working_set_bytes: int, rungs: list[int]) -> None:
    assert around(working_set_bytes) == rungs


def test_the_ladder_goes_from_16_kib_to_1_gib_in_steps_of_2() -> None:
    assert LADDER_BYTES[0] == 16 * KIB
    assert LADDER_BYTES[-1] == 1024 * MIB
    assert all(2 * low == high for low, high in pairwise(LADDER_BYTES))


@pytest.mark.parametrize(
    ("working_set_bytes", "rungs"),
    [(1, [16 * KIB]), (20 * KIB, [16 * KIB, 32 * KIB]), (1 << 40, [1024 * MIB])],
)
def test_only_the_rungs_beside_a_working_set_are_measured(working_set_bytes: int, rungs: list[int]) -> None:
    device = Device()
    look(at(), device, working_set_bytes)
    asked = [words(case) for case in device.opened if case.workload == "stream"]
    # A triad's three vectors, of a round length, come to a little less than a rung.
    rounding = {"read": 1, "copy": 1, "triad": 3 * 64 * 4}
    expected = [f"stream {kind} {rung // by * by}" for rung in rungs for kind, by in rounding.items()]
    assert asked == expected


@pytest.mark.parametrize("best", KINDS)
def test_the_best_of_read_copy_and_triad_is_the_ceiling(best: str) -> None:
    device = Device(rate=lambda case: 5e10 if case.params["kind"] == best else 1e10)
    ceiling = memory_of(look(at(), device))
    assert ceiling.rate_per_s == pytest.approx(5e10)
    assert f"kind={best}" in ceiling.workload
    assert ceiling.workload.startswith("stream ")


def cached(case: Case) -> float:
    """Streams at 8e10 in 64 KiB and less, at 2e10 beyond."""
    return 8e10 if case.size * 4 * KINDS[case.params["kind"]] <= 64 * KIB else 2e10


@pytest.mark.parametrize(
    ("working_set_bytes", "rate_per_s"),
    [
        (1, 8e10),
        (20 * KIB, 8e10),
        (100 * KIB, 8e10),  # nobody knows where between 64 and 128 KiB the cache ends
        (150 * KIB, 2e10),
        (1 << 40, 2e10),
    ],
)
def test_a_ceiling_holds_for_a_working_set_and_its_neighbours(
    working_set_bytes: int, rate_per_s: float
) -> None:
    found = look(at(), Device(rate=cached), working_set_bytes)
    assert memory_of(found).rate_per_s == pytest.approx(rate_per_s)


def test_the_best_round_counts_for_what_others_take_is_no_ceiling() -> None:
    device = Device()
    found = look(at(), device)
    assert memory_of(found).rate_per_s == pytest.approx(3e10)
    assert sum(name == "stream read 16384" for name, _ in device.rounds) > 1


@pytest.mark.parametrize(("name", "rate_per_s"), [("gpu", 6e10), ("cpu", 3e10)])
def test_of_a_cpu_s_slope_the_middle_round_counts_which_noise_makes_too_short_as_well(
    name: str, rate_per_s: float
) -> None:
    found = look(at(), Device(name=name, slow=(0.5, 1, 1, 2)), transfers=False)
    assert memory_of(found).rate_per_s == pytest.approx(rate_per_s)


def test_of_a_workload_that_does_not_tell_its_working_set_there_is_no_memory_ceiling() -> None:
    device = Device()
    found = look(at(), device, None)
    assert found.ceilings.memory is None
    assert "working set" in found.absent["ceilings.memory"]
    assert not any(case.workload == "stream" for case in device.opened)
    assert found.ceilings.compute is not None


# --- compute ---------------------------------------------------------------------------------------


def products(device: Device) -> list[str]:
    return [words(case) for case in device.opened if case.workload == "matmul"]


@pytest.mark.parametrize("name", ["cpu", "gpu"])
def test_a_second_product_is_tried_where_the_first_was_short(name: str) -> None:
    device = Device(name=name, flops_per_s=2e13)
    look(at(), device)
    assert products(device) == [f"matmul {size} float32 highest" for size in MATMULS[name]]


@pytest.mark.parametrize(("first_s", "tried"), [(0.049, 2), (0.051, 1)])
def test_a_second_product_is_skipped_where_the_first_was_long(first_s: float, tried: int) -> None:
    device = Device(flops_per_s=2.0 * 1024**3 / first_s)
    ceiling = compute_of(look(at(), device))
    assert len(products(device)) == tried
    assert ceiling.rate_per_s == pytest.approx(device.flops_per_s)


def test_the_better_of_two_products_is_the_ceiling() -> None:
    slow = Round(samples_s=(1.0,) * 15, depth=1, spent_s=0.01, warmup_s=0.0)
    found = look(at(), Device(flops_per_s=2e13, on_round={"matmul 2048": slow}))
    assert compute_of(found).workload == "matmul 1024 float32 highest"
    assert compute_of(found).rate_per_s == pytest.approx(2e13)


def test_a_compute_ceiling_is_one_of_a_dtype_and_a_precision() -> None:
    book, device = at(), Device(flops_per_s=1e10)
    for dtype, precision in [("float32", "highest"), ("float64", "highest"), ("float32", "default")]:
        found = look(book, device, case=make_case(dtype=dtype, precision=precision))
        assert compute_of(found).workload == f"matmul 1024 {dtype} {precision}"
    assert len(products(device)) == 3
    assert sum(case.workload == "stream" for case in device.opened) == 6  # of which the dtype makes nothing


# --- transfers -------------------------------------------------------------------------------------


def test_of_a_gpu_transfers_are_measured_each_way_and_pinned() -> None:
    device = Device(name="gpu")
    found = look(at(), device)
    rates = {name: ceiling.rate_per_s for name, ceiling in found.ceilings.transfers.items()}
    assert rates == pytest.approx({"h2d": 1e10, "h2d_pinned": 2e10, "d2h": 1e10, "d2h_pinned": 2e10})
    opened = [(case.params["parts"], 4 * case.size) for case in device.opened if case.workload == "transfer"]
    assert opened == list(TRANSFER_SHAPES)


@pytest.mark.parametrize("fitting", [0, 1])
def test_where_one_shape_of_transfer_does_not_fit_the_other_tells(fitting: int) -> None:
    sizes = [str(nbytes // 4) for _, nbytes in TRANSFER_SHAPES]
    device = Device(name="gpu", on_open={f"transfer {sizes[1 - fitting]} ": REFUSED})
    found = look(at(), device)
    assert set(found.ceilings.transfers) == set(map(str, TRANSFERS))
    assert {ceiling.workload.split()[1] for ceiling in found.ceilings.transfers.values()} == {sizes[fitting]}
    assert found.absent == {}


@pytest.mark.parametrize("faster", [0, 1])
def test_the_faster_shape_of_transfer_is_the_ceiling(faster: int) -> None:
    size = TRANSFER_SHAPES[1 - faster][1] // 4
    slow = Round(samples_s=(100.0,) * 15, depth=1, spent_s=0.01, warmup_s=0.0)
    found = look(at(), Device(name="gpu", on_round={f"transfer {size} ": slow}))
    rates = {name: ceiling.rate_per_s for name, ceiling in found.ceilings.transfers.items()}
    assert rates == pytest.approx({"h2d": 1e10, "h2d_pinned": 2e10, "d2h": 1e10, "d2h_pinned": 2e10})


def test_what_the_host_has_no_memory_for_is_not_tried() -> None:
    def looked(free_bytes: int) -> tuple[list[int], Found]:
        device = Device(name="gpu")
        book = replace(at(), host_free_bytes=lambda: free_bytes)
        found = look(book, device)
        return [case.params["parts"] for case in device.opened if case.workload == "transfer"], found

    assert looked(8 << 30)[0] == [8, 1]
    tried, found = looked((8 << 30) - 1)
    assert tried == [8]
    assert set(found.ceilings.transfers) == set(map(str, TRANSFERS))
    tried, found = looked(10**9)
    assert tried == []
    assert found.absent["ceilings.transfers.d2h"] == "the host has 1.0 GB free, too little to try it"


def test_of_a_cpu_no_transfers_are_measured() -> None:
    device = Device()
    assert look(at(), device).ceilings.transfers == {}
    assert not any(case.workload == "transfer" for case in device.opened)


def test_where_no_transfer_was_timed_none_is_measured() -> None:
    device = Device(name="gpu")
    assert look(at(), device, transfers=False).ceilings.transfers == {}
    assert not any(case.workload == "transfer" for case in device.opened)


# --- what can't be had -----------------------------------------------------------------------------


def test_what_can_not_be_had_has_a_reason_and_the_others_stand() -> None:
    device = Device(name="gpu", on_open={"stream": REFUSED, "transfer": REFUSED})
    found = look(at(), device)
    assert found.ceilings.memory is None
    assert found.ceilings.transfers == {}
    assert found.ceilings.compute is not None
    assert set(found.absent) == {"ceilings.memory", *(f"ceilings.transfers.{metric}" for metric in TRANSFERS)}
    for reason in found.absent.values():
        assert "does not fit" in reason
    assert found.absent["ceilings.memory"].startswith("stream ")


def test_what_was_had_in_another_way_has_no_reason_to_be_absent() -> None:
    device = Device(flops_per_s=1e13, on_open={"stream triad": REFUSED, "matmul 2048": REFUSED})
    found = look(at(), device)
    assert found.absent == {}
    assert "kind=read" in memory_of(found).workload
    assert compute_of(found).workload.startswith("matmul 1024")


def test_one_metric_that_can_not_be_had_leaves_the_others() -> None:
    device = Device(name="gpu", offers=(Metric.device, Metric.h2d, Metric.d2h))
    found = look(at(), device)
    assert set(found.ceilings.transfers) == {"h2d", "d2h"}
    assert set(found.absent) == {"ceilings.transfers.h2d_pinned", "ceilings.transfers.d2h_pinned"}
    assert "not here" in found.absent["ceilings.transfers.h2d_pinned"]


@pytest.mark.parametrize(
    "device",
    [
        Device(on_open={"matmul": failure("Runtime", "it broke")}),
        Device(on_round={"matmul": failure("Runtime", "it broke")}),
    ],
    ids=["on opening", "in a round"],
)
def test_what_failed_is_not_tried_again_on_the_same_day(device: Device, tmp_path: Path) -> None:
    book = at(folder=tmp_path)
    for one in (book, book, at(NOON + timedelta(hours=3), folder=tmp_path)):
        found = look(one, device)
        assert found.ceilings.compute is None
        assert "it broke" in found.absent["ceilings.compute"]
        assert len(products(device)) == 1
    look(at(NOON + timedelta(days=1), folder=tmp_path), device)
    assert len(products(device)) == 2


def test_a_device_on_which_all_fails_is_not_tried_again_on_the_same_day(tmp_path: Path) -> None:
    look(at(folder=tmp_path), Device(name="gpu", on_open={"": REFUSED}))
    again = Device(name="gpu")
    found = look(at(folder=tmp_path), again)
    assert again.opened == []
    assert found.ceilings == Ceilings(measured_at="2026-01-02T12:00:00+00:00")
    assert "does not fit" in found.absent["ceilings.transfers.d2h"]


def test_what_noise_hid_is_tried_again_by_the_next_command_and_not_by_this_one(tmp_path: Path) -> None:
    noisy = Device(on_round={"stream": Unavailable(reason="too much noise")})
    book = at(folder=tmp_path)
    for _ in range(2):
        found = look(book, noisy)
        assert found.ceilings.memory is None
        assert "too much noise" in found.absent["ceilings.memory"]
    assert sum(case.workload == "stream" for case in noisy.opened) == 6
    quiet = Device()
    assert memory_of(look(at(folder=tmp_path), quiet)).rate_per_s == pytest.approx(3e10)
    assert products(quiet) == []  # which were there


def test_a_death_ends_the_measuring_and_only_what_it_died_of_is_not_tried_again(tmp_path: Path) -> None:
    dying = Device(on_open={"stream copy 16384": None})
    found = look(at(folder=tmp_path), dying)
    assert [words(case) for case in dying.opened] == ["stream read 16384", "stream copy 16384"]
    assert found.ceilings.memory is not None
    assert found.ceilings.compute is None
    assert "had ended" in found.absent["ceilings.compute"]
    fresh = Device()
    again = look(at(folder=tmp_path), fresh)
    asked = [words(case) for case in fresh.opened]
    assert "stream copy 16384" not in asked
    assert "stream read 16384" not in asked
    assert "stream triad 16128" in asked
    assert again.ceilings.compute is not None


def test_a_death_in_a_round_of_transfers_leaves_the_other_metrics_for_the_next_worker(tmp_path: Path) -> None:
    died = look(at(folder=tmp_path), Device(name="gpu", on_round={"transfer": None}))
    assert "signal 9" in died.absent["ceilings.transfers.h2d"]
    fresh = Device(name="gpu")
    found = look(at(folder=tmp_path), fresh)
    first, other = (f"transfer {nbytes // 4} " for _, nbytes in TRANSFER_SHAPES)
    assert found.ceilings.transfers["h2d"].workload.startswith(other)
    assert not any(name.startswith(first) and metric is Metric.h2d for name, metric in fresh.rounds)
    assert any(name.startswith(first) and metric is Metric.d2h for name, metric in fresh.rounds)


def test_an_answer_to_something_else_is_an_error() -> None:
    with pytest.raises(TypeError, match="answered with Closed"):
        look(at(), Device(on_round={"stream": Closed()}))


# --- what is kept ----------------------------------------------------------------------------------


@pytest.mark.parametrize("keep", [True, False], ids=["in a file", "in memory"])
def test_what_is_known_is_not_measured_again(keep: bool, tmp_path: Path) -> None:
    book, device = at(folder=tmp_path if keep else None), Device(name="gpu")
    first = look(book, device)
    asked = len(device.opened)
    second = look(book, device, 30 * KIB)
    assert second.ceilings == first.ceilings
    assert len(device.opened) == asked > 0


def test_another_book_reads_what_one_has_kept_and_measures_nothing(tmp_path: Path) -> None:
    first = look(at(folder=tmp_path / "new" / "folder"), Device(name="gpu"))
    device = Device(name="gpu")
    second = look(at(NOON + timedelta(hours=5), folder=tmp_path / "new" / "folder"), device)
    assert device.opened == []
    assert second.ceilings == first.ceilings
    assert second.ceilings.measured_at == "2026-01-02T12:00:00+00:00"
    assert len([path for path in tmp_path.rglob("*") if path.is_file()]) == 1


def test_only_what_is_missing_is_measured_and_added(tmp_path: Path) -> None:
    look(at(folder=tmp_path), Device(), 40 * KIB)
    device = Device()
    look(at(folder=tmp_path), device, 100 * KIB)  # of which 64 KiB is known
    assert {words(case) for case in device.opened} == {
        "stream read 131072",
        "stream copy 131072",
        "stream triad 130560",
    }
    after = Device()
    for working_set_bytes in (40 * KIB, 100 * KIB):
        look(at(folder=tmp_path), after, working_set_bytes)
    assert after.opened == []


def test_fresh_measures_again_once_and_keeps_that(tmp_path: Path) -> None:
    look(at(folder=tmp_path), Device())
    book, faster = at(NOON + timedelta(hours=1), folder=tmp_path, fresh=True), Device(rate=lambda _: 9e10)
    found = look(book, faster)
    assert memory_of(found).rate_per_s == pytest.approx(9e10)
    assert found.ceilings.measured_at == "2026-01-02T13:00:00+00:00"
    asked = len(faster.opened)
    look(book, faster)
    assert len(faster.opened) == asked > 0
    after = Device()
    assert look(at(NOON + timedelta(hours=2), folder=tmp_path), after).ceilings == found.ceilings
    assert after.opened == []


def test_a_new_day_measures_again(tmp_path: Path) -> None:
    look(at(folder=tmp_path), Device())
    device = Device()
    look(at(NOON + timedelta(days=1), folder=tmp_path), device)
    assert device.opened


@pytest.mark.parametrize("keep", [True, False])
def test_a_command_that_goes_on_past_midnight_measures_again(keep: bool, tmp_path: Path) -> None:
    moment = [NOON]
    book, device = Book(folder=tmp_path if keep else None, now=lambda: moment[0]), Device()
    look(book, device)
    asked = len(device.opened)
    moment[0] = NOON + timedelta(days=1)
    found = look(book, device)
    assert len(device.opened) == 2 * asked
    assert found.ceilings.measured_at.startswith("2026-01-03")


@pytest.mark.parametrize(
    "changed",
    [
        {"host_id": "def"},
        {"python": "3.13.0"},
        {"cpu": {"model": "EPYC", "cores": 2}},
        {"gpu": {"name": "H200", "driver": "590.1"}},
    ],
    ids=lambda changed: next(iter(changed)),
)
def test_another_environment_has_ceilings_of_its_own(changed: dict[str, Any], tmp_path: Path) -> None:
    book = at(folder=tmp_path)
    look(book, Device(name="gpu"))
    elsewhere = Device(name="gpu", rate=lambda _: 7e10)
    assert memory_of(look(book, elsewhere, **changed)).rate_per_s == pytest.approx(7e10)
    assert len(list(tmp_path.iterdir())) == 2


def test_two_devices_of_one_environment_do_not_mix(tmp_path: Path) -> None:
    book = at(folder=tmp_path)
    same = {"environment": started("gpu").environment}
    cpu, gpu = Device(rate=lambda _: 1e10), Device(name="gpu", rate=lambda _: 9e10)
    assert memory_of(look(book, cpu, **same["environment"])).rate_per_s == pytest.approx(1e10)
    assert memory_of(look(book, gpu, **same["environment"])).rate_per_s == pytest.approx(9e10)
    for device, rate_per_s in (("cpu", 1e10), ("gpu", 9e10)):
        again = Device(name=device)
        kept = look(at(folder=tmp_path), again, **same["environment"])
        assert memory_of(kept).rate_per_s == pytest.approx(rate_per_s)
        assert again.opened == []


# --- files that are damaged, and folders that take none ----------------------------------------------


@pytest.mark.parametrize(
    "damage",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b'{"measured_at": 3}',
        b"\xff\xfe",
        b'{"ceilings": {}}',
        b"\x00" * 100,
        b'{"measured_at": "\xff"}',
    ],
)
def test_a_damaged_file_is_measured_anew_and_replaced(damage: bytes, tmp_path: Path) -> None:
    first = look(at(folder=tmp_path), Device())
    (path,) = tmp_path.iterdir()
    path.write_bytes(damage)
    device = Device()
    assert look(at(folder=tmp_path), device).ceilings == first.ceilings
    assert device.opened
    after = Device()
    assert look(at(folder=tmp_path), after).ceilings == first.ceilings
    assert after.opened == []
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_that_can_not_be_read_is_as_good_as_none(tmp_path: Path) -> None:
    first = look(at(folder=tmp_path), Device())
    (path,) = tmp_path.iterdir()
    path.unlink()
    path.mkdir()  # permissions would not keep root out
    device = Device()
    assert look(at(folder=tmp_path), device).ceilings == first.ceilings
    assert device.opened


def test_a_folder_that_takes_no_files_costs_only_that_the_next_command_measures_again(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    book, device = at(folder=tmp_path / "file" / "ceilings"), Device()
    found = look(book, device)
    assert found.ceilings.memory is not None
    asked = len(device.opened)
    assert look(book, device).ceilings == found.ceilings
    assert len(device.opened) == asked


def test_what_failed_is_not_tried_when_the_rest_is_measured_again(tmp_path: Path) -> None:
    look(at(folder=tmp_path), Device(on_open={"stream copy 16384": None}))
    again = Device()
    found = look(at(folder=tmp_path), again, again=True)
    asked = [words(case) for case in again.opened]
    assert "stream copy 16384" not in asked  # it took a worker with it
    assert {"stream read 16384", "stream triad 16128", "matmul 1024 float32 highest"} <= set(asked)
    assert found.absent == {}


def test_what_is_measured_again_keeps_the_better_of_the_two(tmp_path: Path) -> None:
    def rate(read: float, *, again: bool) -> float:
        device = Device(rate=lambda case: read if case.params["kind"] == "read" else 1e9)
        return memory_of(look(at(folder=tmp_path), device, again=again)).rate_per_s

    assert rate(1e10, again=False) == pytest.approx(1e10)
    assert rate(9e9, again=True) == pytest.approx(1e10)
    assert rate(2e10, again=True) == pytest.approx(2e10)
    assert rate(1e9, again=False) == pytest.approx(2e10)  # it is kept

"""Joules a call, from a counter of known power, tick and delay; and which counter a device has."""

import math
from bisect import bisect_right
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from fake_nvml import A, FakeNvml, install
from fakes import FakeClock
from hypothesis import example, given, settings
from hypothesis import strategies as st

from jaxaccel.records import Energy
from jaxaccel.worker.energy import Counter, NoAnswerError, counter, measure

CPU = SimpleNamespace(platform="cpu")
GPU = SimpleNamespace(platform="gpu", local_hardware_id=0)


@dataclass(kw_only=True)
class Board:
    """A device whose calls take `call_s`, and its counter, which shows at each tick what was used until then.

    lag_s: how long before the tick. ramp_s: for how long a load draws only half, after an idle moment longer
    than 10 ms. cooling_s: until when the device draws 250 W although idle. still_from_s: when ticks end.
    """

    call_s: float
    tick_s: float = 0.1
    phase_s: float = 0.0
    read_s: float = 0.003
    idle_w: float = 117.0
    load_w: float = 690.0
    lag_s: float = 0.0
    ramp_s: float = 0.0
    cooling_s: float = 0.0
    still_from_s: float = math.inf
    silent_from_s: float = math.inf
    clock: FakeClock = field(default_factory=FakeClock)
    running: bool = False
    bursts: list[int] = field(default_factory=list)
    began: list[float] = field(default_factory=list)
    reads: list[float] = field(default_factory=list)
    # The power over time: from `_starts` on `_watts`, with `_joules` used before.
    _starts: list[float] = field(default_factory=lambda: [0.0])
    _joules: list[float] = field(default_factory=lambda: [0.0])
    _watts: list[float] = field(default_factory=lambda: [0.0])
    _ramped_s: float = 0.0

    def _pass(self, seconds: float, watts: float) -> None:
        now = self.clock()
        self._joules.append(self._used_j(now))
        self._starts.append(now)
        self._watts.append(watts)
        self.clock.advance(seconds)

    def _used_j(self, at_s: float) -> float:
        index = bisect_right(self._starts, at_s) - 1
        return self._joules[index] + self._watts[index] * (at_s - self._starts[index])

    def sleep(self, seconds: float) -> None:
        warm_s = min(seconds, max(0.0, self.cooling_s - self.clock()))
        self._pass(warm_s, 250.0)
        self._pass(seconds - warm_s, self.idle_w)
        if seconds > 0.01:
            self._ramped_s = 0.0

    def run(self, calls: int) -> None:
        assert isinstance(calls, int)
        assert calls >= 1
        self.began.append(self.clock())
        self.bursts.append(calls)
        self.running = True
        seconds = calls * self.call_s
        slow_s = min(seconds, max(0.0, self.ramp_s - self._ramped_s))
        self._pass(slow_s, (self.load_w + self.idle_w) / 2)
        self._pass(seconds - slow_s, self.load_w)
        self._ramped_s += slow_s
        self.running = False

    def read_j(self) -> float:
        assert not self.running
        self.reads.append(self.clock())
        self.sleep(self.read_s / 2)
        now = min(self.clock(), self.still_from_s)
        if now >= self.silent_from_s:
            raise NoAnswerError("no answer")
        tick_s = math.floor((now - self.phase_s) / self.tick_s) * self.tick_s + self.phase_s - self.lag_s
        shown_j = math.floor(1000 * self._used_j(max(0.0, tick_s))) / 1000
        self.sleep(self.read_s / 2)
        return shown_j

    @property
    def per_call_j(self) -> float:
        return self.load_w * self.call_s

    @property
    def above_idle_j(self) -> float:
        return (self.load_w - self.idle_w) * self.call_s


def found(board: Board, typical_s: float | None = None, at_least_s: float = 2.0) -> Energy | str:
    return measure(
        board.run,
        typical_s or board.call_s,
        Counter(source="a fake", scope="a board", read_j=board.read_j),
        at_least_s=at_least_s,
        clock=board.clock,
        sleep=board.sleep,
    )


def energy(board: Board, typical_s: float | None = None, at_least_s: float = 2.0) -> Energy:
    result = found(board, typical_s, at_least_s)
    assert isinstance(result, Energy), result
    return result


# --- how much a call uses --------------------------------------------------------------------------


@pytest.mark.slow
@settings(deadline=None, max_examples=200)
@example(exponent=-0.377, phase_s=0.0, read_ticks=0.01, tick_s=0.02, load_w=690.0, at_least_s=0.5)
@given(
    exponent=st.floats(-5, math.log10(0.7)),
    phase_s=st.floats(0, 0.1),
    read_ticks=st.floats(0.01, 0.05),
    tick_s=st.sampled_from([0.001, 0.02, 0.1, 0.4]),
    load_w=st.sampled_from([130.0, 690.0]),
    at_least_s=st.floats(0, 20),
)
def test_the_truth_is_within_the_uncertainty(
    exponent: float, phase_s: float, read_ticks: float, tick_s: float, load_w: float, at_least_s: float
) -> None:
    board = Board(
        call_s=10**exponent, phase_s=phase_s, read_s=read_ticks * tick_s, tick_s=tick_s, load_w=load_w
    )
    told = energy(board, at_least_s=at_least_s)
    assert told.per_call_j == pytest.approx(board.per_call_j, abs=told.uncertainty_j)
    assert told.above_idle_per_call_j == pytest.approx(board.above_idle_j, abs=told.uncertainty_j)


@pytest.mark.parametrize("call_s", [1e-5, 1e-4, 0.00156, 0.005])
@pytest.mark.parametrize("phase_s", [0.0, 0.013, 0.037, 0.052, 0.078, 0.099])
@pytest.mark.parametrize("lag_s", [0.0, 0.03, 0.1])
def test_from_tick_to_tick_a_short_call_is_right_within_1_percent(
    call_s: float, phase_s: float, lag_s: float
) -> None:
    # Neither the rise of the clocks nor what the counter lags behind is in it.
    # No multiple of the tick is near 2 s: two readings anywhere would be off by 2%.
    board = Board(call_s=call_s, phase_s=phase_s, lag_s=lag_s, ramp_s=0.15, tick_s=0.093)
    told = energy(board)
    assert told.per_call_j == pytest.approx(board.per_call_j, rel=0.01)
    assert told.above_idle_per_call_j == pytest.approx(board.above_idle_j, rel=0.01)


def test_what_is_told_beside_it() -> None:
    board = Board(call_s=0.00156, phase_s=0.04)
    told = energy(board)
    assert (told.source, told.scope) == ("a fake", "a board")
    assert told.resolution_s == pytest.approx(0.1, abs=0.002)
    assert told.idle_w == pytest.approx(117, rel=0.01)
    assert 2.0 <= told.duration_s < 2.5
    assert told.calls == pytest.approx(told.duration_s / 0.00156, rel=0.02)
    # A tick, a burst of 6 calls with a read on either side, and 6 ms of the half second of idle.
    open_s = 0.1 + 6 * 0.00156 + 2 * 0.003
    expected_j = 690 * open_s / (1 - open_s / told.duration_s) + 117 * told.duration_s * 0.006 / 0.5
    assert told.uncertainty_j * told.calls == pytest.approx(expected_j, rel=0.02)


def test_no_measurement_is_shorter_than_five_ticks() -> None:
    assert 0.5 <= energy(Board(call_s=0.001), at_least_s=0.0).duration_s < 0.9
    assert 2.0 <= energy(Board(call_s=0.001, tick_s=0.4), at_least_s=0.1).duration_s < 2.8


def test_the_time_that_a_longer_measurement_takes_makes_it_surer() -> None:
    short, long = (energy(Board(call_s=0.001), at_least_s=at_least_s) for at_least_s in (2, 20))
    assert long.uncertainty_j < 0.2 * short.uncertainty_j


def test_idle_is_after_the_board_has_settled() -> None:
    assert energy(Board(call_s=0.001, cooling_s=0.29)).idle_w == pytest.approx(117, rel=0.01)


def test_idle_is_over_half_a_second_in_which_next_to_nothing_is_read() -> None:
    # On a CPU, a process that reads without a pause would itself be a load.
    board = Board(call_s=0.001, tick_s=0.001, read_s=2e-5)
    energy(board)
    idle = [at_s for at_s in board.reads if at_s < board.began[0]]
    assert idle[0] == 0.3
    assert idle[-1] >= 0.8
    assert len(idle) * board.read_s < 0.02 * 0.5


@pytest.mark.parametrize("call_s", [1e-5, 0.00156, 0.02, 0.15])
def test_reads_are_next_to_none_of_the_load_and_never_inside_a_burst(call_s: float) -> None:
    board = Board(call_s=call_s, phase_s=0.05)
    told = energy(board)
    end_s = board.clock()
    inside = [at_s for at_s in board.reads if at_s > end_s - told.duration_s]
    assert len(inside) >= 1
    assert len(inside) * board.read_s < 0.02 * told.duration_s


@pytest.mark.parametrize("typical_s", [1e-6, 1e-2, 10.0, math.inf])
def test_how_long_a_call_takes_is_found_anew(typical_s: float) -> None:
    board = Board(call_s=1e-5)
    told = energy(board, typical_s)
    assert told.per_call_j == pytest.approx(board.per_call_j, rel=0.01)
    assert len(board.bursts) < 50
    assert told.duration_s < 2.5


@pytest.mark.parametrize("call_s", [3.0, 30.0])
def test_a_call_longer_than_the_measurement_is_counted_once_after_one_that_is_not(call_s: float) -> None:
    board = Board(call_s=call_s)
    told = energy(board)
    assert board.bursts == [1, 1]
    assert told.calls == 1
    assert told.duration_s == pytest.approx(call_s, abs=0.01)
    assert told.per_call_j == pytest.approx(board.per_call_j, abs=told.uncertainty_j)
    assert told.uncertainty_j == pytest.approx(
        690 * 0.103 / (1 - 0.103 / call_s) + 117 * call_s * 0.006 / 0.6, rel=0.05
    )


def test_a_typical_time_of_nothing_is_refused() -> None:
    for typical_s in (-1.0, math.nan):
        with pytest.raises(ValueError, match="`typical_s` must be positive, got"):
            found(Board(call_s=1.0), typical_s)


# --- a counter that does not count -----------------------------------------------------------------


def test_a_counter_that_never_moves_is_a_reason_before_anything_runs() -> None:
    board = Board(call_s=0.001, still_from_s=0.0)
    assert found(board) == "the counter (a fake) has not moved for 0.5 s"
    assert board.bursts == []
    assert board.clock() == pytest.approx(0.3 + 0.5, abs=0.01)


@pytest.mark.parametrize("still_from_s", [0.7, 1.1, 2.5])
def test_a_counter_that_moves_no_more_is_a_reason(still_from_s: float) -> None:
    board = Board(call_s=0.001, still_from_s=still_from_s)
    assert found(board) == "the counter (a fake) has not moved for 0.5 s"
    assert board.clock() < 5


@pytest.mark.parametrize("silent_from_s", [0.0, 0.7, 1.1, 2.5])
def test_a_counter_that_answers_no_more_is_a_reason(silent_from_s: float) -> None:
    assert found(Board(call_s=0.001, silent_from_s=silent_from_s)) == "no answer"


# --- the counter of a CPU --------------------------------------------------------------------------


class Powercap:
    """A folder as /sys/class/powercap is: each domain a folder, flat, whatever it is part of."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def domain(self, folder: str, name: str, energy_uj: int, range_uj: int = 262_143_328_850) -> None:
        (self.root / folder).mkdir()
        (self.root / folder / "name").write_text(f"{name}\n")
        (self.root / folder / "max_energy_range_uj").write_text(f"{range_uj}\n")
        self.show(folder, energy_uj)

    def show(self, folder: str, energy_uj: int) -> None:
        (self.root / folder / "energy_uj").write_text(f"{energy_uj}\n")

    def counter(self) -> Counter:
        one = counter(CPU, self.root)
        assert isinstance(one, Counter), one
        return one


@pytest.fixture
def powercap(tmp_path: Path) -> Powercap:
    return Powercap(tmp_path)


def test_the_packages_of_a_cpu_are_summed_and_nothing_is_counted_twice(powercap: Powercap) -> None:
    (powercap.root / "intel-rapl").mkdir()
    domains = {
        "intel-rapl:0": "package-0",
        "intel-rapl:0:0": "core",
        "intel-rapl:0:1": "dram",
        "intel-rapl:1": "package-1-die-0",
        "intel-rapl:2": "psys",
        "intel-rapl-mmio:0": "package-0",
    }
    for folder, name in domains.items():
        powercap.domain(folder, name, 5_000_000)
    one = powercap.counter()
    assert (one.source, one.scope) == ("RAPL", "CPU packages")
    before_j = one.read_j()
    for exponent, folder in enumerate(domains):
        powercap.show(folder, 5_000_000 + 10**exponent)
    assert one.read_j() - before_j == pytest.approx((1 + 1000) / 1e6)


def test_a_counter_that_starts_again_has_lost_nothing(powercap: Powercap) -> None:
    powercap.domain("intel-rapl:0", "package-0", 990_000_000, range_uj=1_000_000_000)
    powercap.domain("intel-rapl:1", "package-1", 0, range_uj=3_000_000_000)
    one = powercap.counter()
    before_j = one.read_j()
    powercap.show("intel-rapl:0", 5_000_000)
    assert one.read_j() - before_j == 15
    powercap.show("intel-rapl:0", 985_000_000)
    powercap.show("intel-rapl:1", 2_000_000_000)
    assert one.read_j() - before_j == 995 + 2000
    powercap.show("intel-rapl:0", 984_000_000)
    assert one.read_j() - before_j == 995 + 999 + 2000


def test_energy_is_right_where_rapl_starts_again_in_it(powercap: Powercap) -> None:
    range_uj = 300_000_000  # 300 J, of the 345 J and more that are used
    powercap.domain("intel-rapl:0", "package-0", 0, range_uj)
    board = Board(call_s=0.001, tick_s=0.001, read_s=2e-5, load_w=150.0, idle_w=30.0)
    rapl = powercap.counter()

    def read_j() -> float:
        powercap.show("intel-rapl:0", round(1e6 * board.read_j()) % range_uj)
        return rapl.read_j()

    told = measure(
        board.run,
        0.001,
        Counter(source=rapl.source, scope=rapl.scope, read_j=read_j),
        clock=board.clock,
        sleep=board.sleep,
    )
    assert board.read_j() > 300
    assert isinstance(told, Energy)
    assert told.per_call_j == pytest.approx(0.15, rel=0.002)
    assert told.above_idle_per_call_j == pytest.approx(0.12, rel=0.002)
    assert told.scope == "CPU packages"


def test_without_rapl_the_reason_says_so(powercap: Powercap) -> None:
    reason = f"absent: no RAPL counter under {powercap.root} (virtual machines have none)"
    assert counter(CPU, powercap.root) == reason
    powercap.domain("intel-rapl:0", "psys", 0)
    (powercap.root / "intel-rapl:1").symlink_to(powercap.root / "hidden")
    assert counter(CPU, powercap.root) == reason
    nowhere = powercap.root / "nowhere"
    assert counter(CPU, nowhere) == f"absent: no RAPL counter under {nowhere} (virtual machines have none)"


def test_rapl_that_may_not_be_read_is_a_reason_and_says_how(
    powercap: Powercap, monkeypatch: pytest.MonkeyPatch
) -> None:
    powercap.domain("intel-rapl:0", "package-0", 0)
    as_root = Path.read_text

    def as_user(path: Path, *arguments: Any, **named: Any) -> str:
        if path.name == "energy_uj":
            raise PermissionError(13, "Permission denied", str(path))
        return as_root(path, *arguments, **named)

    monkeypatch.setattr(Path, "read_text", as_user)
    assert counter(CPU, powercap.root) == (
        "RAPL is there but may not be read: permission denied "
        f"(as root: chmod a+r {powercap.root}/intel-rapl:*/energy_uj)"
    )


def test_rapl_that_is_gone_answers_no_more(powercap: Powercap) -> None:
    powercap.domain("intel-rapl:0", "package-0", 0)
    one = powercap.counter()
    (powercap.root / "intel-rapl:0" / "energy_uj").unlink()
    with pytest.raises(NoAnswerError, match="RAPL cannot be read any more"):
        one.read_j()


# --- the counter of a GPU --------------------------------------------------------------------------


def test_a_gpu_has_the_counter_of_its_board(monkeypatch: pytest.MonkeyPatch) -> None:
    nvml = FakeNvml()
    install(monkeypatch, nvml, A)
    one = counter(GPU)
    assert isinstance(one, Counter)
    assert (one.source, one.scope) == ("NVML total energy", "GPU board")
    assert one.read_j() == 12_345.678
    nvml.silent = ("nvmlDeviceGetTotalEnergyConsumption",)
    with pytest.raises(NoAnswerError, match="the GPU does not answer for its energy any more"):
        one.read_j()


@pytest.mark.parametrize(
    ("nvml", "reason"),
    [
        (None, "nvidia-ml-py is not installed"),
        (FakeNvml(silent=("nvmlInit",)), "Not Supported"),
        (
            FakeNvml(silent=("nvmlDeviceGetTotalEnergyConsumption",)),
            "the GPU does not answer for its energy (NVML counts it from Volta on, not for a MIG instance)",
        ),
    ],
)
def test_without_the_counter_of_a_gpu_the_reason_says_so(
    nvml: FakeNvml | None, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(monkeypatch, nvml)
    assert counter(GPU) == reason
    assert nvml is None or nvml.users == 0

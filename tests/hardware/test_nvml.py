"""Which GPU NVML is asked about, however it is named, and what it answers. The library is a fake."""

import hashlib
from types import SimpleNamespace
from typing import Any

import pytest
from fake_nvml import MIG_OF_B, UNSUPPORTED, A, B, C, FakeNvml, install

from jaxaccel.hardware.host import physical_name
from jaxaccel.hardware.nvml import Gpu, open_gpu
from jaxaccel.records import POWER_CAP
from jaxaccel.records.messages import COMPANIONS
from jaxaccel.worker.conditions import Conditions
from jaxaccel.worker.devices import nvml_facts


def variables(visible: str | None) -> dict[str, str]:
    return {} if visible is None else {"CUDA_VISIBLE_DEVICES": visible}


def opened(nvml: FakeNvml, visible: str | None = None, local_index: int = 0) -> Gpu:
    gpu = open_gpu(local_index, variables=variables(visible), library=nvml)
    assert isinstance(gpu, Gpu), gpu
    return gpu


def reason(nvml: FakeNvml, visible: str | None = None, local_index: int = 0) -> str:
    why = open_gpu(local_index, variables=variables(visible), library=nvml)
    assert isinstance(why, str)
    return why


def jax_gpu(local_index: int = 0) -> Any:
    return SimpleNamespace(platform="gpu", local_hardware_id=local_index)


# --- which GPU -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("visible", "local_index", "uuid"),
    [
        pytest.param(None, 0, A, id="unset"),
        pytest.param(None, 2, C, id="unset, the third"),
        pytest.param("1", 0, B, id="index"),
        pytest.param("2,1", 0, C, id="list"),
        pytest.param("2, 1", 1, B, id="list, the second"),
        pytest.param(C, 0, C, id="uuid"),
        pytest.param(f"{C},{B}", 1, B, id="uuids, the second"),
        pytest.param("GPU-ba", 0, C, id="prefix"),
        pytest.param("GPU-8932a", 0, B, id="the shortest prefix of one of two"),
        pytest.param(MIG_OF_B, 0, B, id="MIG"),
        pytest.param(f"MIG-{C}/1/0", 0, C, id="MIG by its GPU"),
    ],
)
def test_a_gpu_is_found_however_it_is_named(visible: str | None, local_index: int, uuid: str) -> None:
    nvml = FakeNvml()
    with opened(nvml, visible, local_index) as gpu:
        assert gpu.uuid == uuid
        assert nvml.users == 1
    assert nvml.users == 0


@pytest.mark.parametrize("visible", ["", "-1", "3", "9" * 30, "NoDevFiles", "²", "GPU-8932", "GPU-0", ",1"])
def test_a_name_of_no_gpu_or_of_two_is_a_reason(visible: str) -> None:
    nvml = FakeNvml()
    assert reason(nvml, visible) == f"CUDA_VISIBLE_DEVICES={visible!r} leaves no GPU 0 that NVML knows"
    assert nvml.users == 0


@pytest.mark.parametrize("visible", ["", "G", "NoDevFiles"])
def test_the_only_gpu_is_not_taken_for_one_that_is_not_named(visible: str) -> None:
    only = FakeNvml(uuids=(A,))
    assert reason(only, visible).startswith("CUDA_VISIBLE_DEVICES=")
    assert opened(only, "GPU-8932").uuid == A


def test_a_gpu_beyond_those_that_are_visible_is_a_reason() -> None:
    assert reason(FakeNvml(), "1,2", 2) == "CUDA_VISIBLE_DEVICES='1,2' leaves no GPU 2 that NVML knows"
    assert reason(FakeNvml(), None, 3) == "Invalid Argument"


@pytest.mark.parametrize("visible", [f"{A[:-1]}0", f"MIG-{'0' * 36}", f"MIG-{A[:-1]}0/1/0"])
def test_a_whole_uuid_that_nvml_does_not_know_is_a_reason(visible: str) -> None:
    nvml = FakeNvml()
    assert reason(nvml, visible) == "Not Found"
    assert nvml.users == 0


def test_a_whole_uuid_wakes_no_other_gpu() -> None:
    nvml = FakeNvml()
    opened(nvml, C)
    assert nvml.woken == [C]


def test_a_lost_gpu_hides_no_other() -> None:
    assert opened(FakeNvml(lost=(A,)), "GPU-ba").uuid == C
    assert reason(FakeNvml(lost=(A,)), "0") == "GPU is lost"


def test_where_nvml_does_not_start_its_error_is_the_reason() -> None:
    nvml = FakeNvml(silent=("nvmlInit",))
    assert reason(nvml) == UNSUPPORTED
    assert nvml.users == 0


def test_where_a_gpu_tells_no_uuid_its_error_is_the_reason() -> None:
    nvml = FakeNvml(silent=("nvmlDeviceGetUUID",))
    assert reason(nvml) == UNSUPPORTED
    assert nvml.users == 0


def test_where_nothing_is_installed_that_is_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, None)
    assert open_gpu() == "nvidia-ml-py is not installed"


# --- what it tells ---------------------------------------------------------------------------------


def test_the_facts_are_those_of_the_gpu_that_is_visible(monkeypatch: pytest.MonkeyPatch) -> None:
    nvml = FakeNvml()
    install(monkeypatch, nvml, f"{C},{B}")
    assert nvml_facts(jax_gpu(1)) == {
        "name": f"name of {B}",
        "id": hashlib.sha256(B.encode()).hexdigest()[:12],
        "driver": "595.71",
        "memory_bytes": 80_000_000_000,
        "sm_clock_max_hz": 1_980_000_000,
        "memory_clock_max_hz": 2_619_000_000,
        "power_limit_w": 350.5,
    }
    assert nvml.users == 0


@pytest.mark.parametrize(
    ("nvml", "why"),
    [
        (None, "nvidia-ml-py is not installed"),
        (FakeNvml(silent=("nvmlInit",)), UNSUPPORTED),
        (FakeNvml(silent=("nvmlDeviceGetEnforcedPowerLimit",)), UNSUPPORTED),
    ],
)
def test_facts_that_are_absent_have_a_reason(
    nvml: FakeNvml | None, why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(monkeypatch, nvml)
    assert nvml_facts(jax_gpu()) == {"nvml": f"absent: {why}"}
    assert nvml is None or nvml.users == 0


def test_free_memory_is_that_of_the_whole_gpu_or_unknown() -> None:
    assert opened(FakeNvml()).free_bytes() == 30_000_000_000
    assert opened(FakeNvml(silent=("nvmlDeviceGetMemoryInfo",))).free_bytes() is None


def test_energy_and_power_are_in_joules_and_watts() -> None:
    gpu = opened(FakeNvml())
    assert gpu.energy_j() == 12_345.678
    assert gpu.power_limit_w == 700.0
    assert opened(FakeNvml(), "2").energy_j() == 0.0


def test_energy_and_power_that_a_gpu_does_not_tell_are_unknown() -> None:
    gpu = opened(FakeNvml(silent=("nvmlDeviceGetTotalEnergyConsumption", "nvmlDeviceGetEnforcedPowerLimit")))
    assert gpu.energy_j() is None
    assert gpu.power_limit_w is None


def test_energy_is_unknown_where_other_mig_instances_use_it_too() -> None:
    assert opened(FakeNvml(mig_enabled=True), MIG_OF_B).energy_j() is None
    assert opened(FakeNvml(mig_enabled=False), "1").energy_j() == 2.5
    assert opened(FakeNvml(silent=("nvmlDeviceGetMigMode",)), "1").energy_j() == 2.5


@pytest.mark.parametrize(
    ("reasons", "words"),
    [
        (0x1, ()),  # idle
        (0x4, (POWER_CAP,)),
        (0x1 | 0x20 | 0x40, ("thermal", "thermal (hardware)")),
        (0x80, ("power brake",)),
    ],
)
def test_conditions_say_what_slows_a_gpu_down(
    reasons: int, words: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    install(monkeypatch, FakeNvml(reasons=reasons))
    assert Conditions(jax_gpu()).slowdowns() == words


@pytest.mark.parametrize(("processes", "others"), [(0, 0), (1, 0), (2, 1), (4, 3)])
def test_conditions_warn_of_company(processes: int, others: int, monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, FakeNvml(processes=processes))
    told = [(flag.name, flag.message) for flag in Conditions(jax_gpu()).warnings()]
    expected = ("gpu shared", f"{others} other processes have work on this GPU")
    assert told == ([expected] if others else [])


@pytest.mark.parametrize(("processes", "others"), [(1, 0), (2, 0), (4, 2)])
def test_workers_of_one_session_are_no_company(
    processes: int, others: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(COMPANIONS, "1")
    install(monkeypatch, FakeNvml(processes=processes))
    told = [flag.message for flag in Conditions(jax_gpu()).warnings()]
    assert told == ([f"{others} other processes have work on this GPU"] if others else [])


def test_conditions_that_a_gpu_does_not_tell_are_no_warnings(monkeypatch: pytest.MonkeyPatch) -> None:
    silent = ("nvmlDeviceGetCurrentClocksEventReasons", "nvmlDeviceGetComputeRunningProcesses")
    install(monkeypatch, FakeNvml(silent=silent, reasons=0x20, processes=5))
    conditions = Conditions(jax_gpu())
    assert (conditions.slowdowns(), conditions.warnings()) == ((), ())


def test_conditions_of_a_cpu_or_without_nvml_are_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    busy = FakeNvml(reasons=0x20, processes=5)
    install(monkeypatch, busy)
    on_cpu = Conditions(SimpleNamespace(platform="cpu"))
    assert busy.users == 0
    install(monkeypatch, None)
    for conditions in (on_cpu, Conditions(jax_gpu())):
        assert (conditions.slowdowns(), conditions.warnings()) == ((), ())


# --- its lock --------------------------------------------------------------------------------------


def test_all_spellings_of_a_gpu_give_one_lock(monkeypatch: pytest.MonkeyPatch) -> None:
    nvml, names = FakeNvml(), {}
    for visible in ("1", "1,0", B, "GPU-8932a", MIG_OF_B, f"MIG-{B}/1/0"):
        install(monkeypatch, nvml, visible)
        names[visible] = physical_name("gpu")
    assert set(names.values()) == {f"gpu-{B}"}
    assert nvml.users == 0
    install(monkeypatch, nvml, "0")
    assert physical_name("gpu") == f"gpu-{A}"
    install(monkeypatch, nvml)
    assert physical_name("gpu") == f"gpu-{A}"


def test_a_lock_is_named_by_the_text_where_nvml_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, FakeNvml(silent=("nvmlInit",)), "3,1")
    assert physical_name("gpu") == "gpu-3"

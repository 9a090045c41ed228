"""The device of this worker, and the environment that a measurement depends on."""

import hashlib
import os
import platform
import re
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import psutil

from jaxaccel.hardware.nvml import Gpu, open_gpu
from jaxaccel.records import ArmFacts
from jaxaccel.records.redact import without_secrets

# What of the environment variables changes speed or results. Paths and secrets are not among them.
SPEED_VARIABLES = (
    "CUDA_VISIBLE_DEVICES",
    "CUDA_LAUNCH_BLOCKING",
    "NVIDIA_TF32_OVERRIDE",
    "OMP_NUM_THREADS",
)
SPEED_PREFIXES = ("JAX_", "XLA_")  # all of these, but for those whose names say otherwise
_NO_SPEED = re.compile(
    r"CACHE|DUMP|DEBUG_LOG|LOGGING|ADDRESS|PROXY|COORDINATOR|PROCESS_ID|_(DIR|PATH|TO|URL|SCHEMA)$"
)
PACKAGES = (
    "jaxaccel",
    "jax",
    "jaxlib",
    "numpy",
    "scipy",
    "flax",
    "optax",
    "jax-cuda13-plugin",
    "jax-cuda12-plugin",
)


class NoDeviceError(RuntimeError):
    """The device that was asked for is not there. `hint` says how to get it."""

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(message)
        self.hint = hint


def connect(requested: str) -> tuple[Any, ArmFacts]:
    """The first JAX device of the kind that was asked for, and its facts.

    The platform was set in the environment before this process started.

    **Raises** NoDeviceError where JAX has none; never another device.
    """
    import jax

    try:
        # Of the platforms that were set, JAX leaves out one that it has no plugin for.
        devices = jax.devices(os.environ.get("JAX_PLATFORMS", "").split(",")[0] or None)
    except (RuntimeError, AssertionError) as error:  # JAX dies on a bare assertion where a plugin is absent
        raise NoDeviceError(_why_none(jax.__version__, str(error)), _install_hint()) from error
    device = devices[0]
    found = "cpu" if device.platform == "cpu" else "gpu"
    if found != requested:
        raise NoDeviceError(
            f"JAX {jax.__version__} found {device.device_kind} in place of a {requested}", _install_hint()
        )
    facts = ArmFacts(
        requested=requested,
        platform=device.platform,
        kind=cpu_model() if found == "cpu" else device.device_kind,
        count=len(devices),
        flags=speed_variables(),
    )
    return device, facts


def speed_variables() -> dict[str, str]:
    """The environment variables that are set and change speed or results."""
    return {
        name: without_secrets(value)
        for name, value in sorted(os.environ.items())
        if name in SPEED_VARIABLES or (name.startswith(SPEED_PREFIXES) and not _NO_SPEED.search(name))
    }


def capacity_bytes(device: Any) -> int:
    """Memory that the device can still give: what JAX may allocate, or what is free on the host."""
    stats = device.memory_stats()
    if device.platform != "cpu" and stats and "bytes_limit" in stats:
        return int(stats["bytes_limit"] - stats.get("bytes_in_use", 0))
    return host_available_bytes()


def free_bytes(device: Any) -> int:
    """Memory that is free on the device now: less than its capacity where other processes hold some."""
    capacity = capacity_bytes(device)
    gpu = None if device.platform == "cpu" else open_nvml(device)
    if not isinstance(gpu, Gpu):
        return capacity
    with gpu:
        free = gpu.free_bytes()
    stats = device.memory_stats() or {}
    idle = max(0, stats.get("pool_bytes", 0) - stats.get("bytes_in_use", 0))  # JAX's own, and not in use
    return capacity if free is None else min(capacity, free + idle)


def host_available_bytes() -> int:
    """Free memory of the host, or of the container where that is less."""
    available = psutil.virtual_memory().available
    limit, used = _cgroup_number("memory.max"), _cgroup_number("memory.current")
    return available if limit is None else max(0, min(available, limit - (used or 0)))


def environment() -> dict[str, Any]:
    """The host and the versions: what is the same for every device of this machine."""
    cores = _affinity()
    return {
        "host_id": host_id(),
        "os": f"{platform.system()} {platform.release()}",
        "machine": platform.machine(),
        "python": platform.python_version(),
        "packages": {name: found for name in PACKAGES if (found := _version(name))},
        "cpu": {
            "model": cpu_model(),
            "cores": cores,
            "logical_total": os.cpu_count(),
            "quota_cores": cgroup_quota(),
            # XLA sizes its pool by the affinity mask; it does not look at the quota.
            "threads": cores,
        },
        "memory_bytes": psutil.virtual_memory().total,
    }


def device_environment(device: Any) -> dict[str, Any]:
    """What JAX and the driver say about a GPU; empty for a CPU, which `environment` describes."""
    if device.platform == "cpu":
        return {}
    stats = device.memory_stats() or {}
    facts: dict[str, Any] = {
        "kind": device.device_kind,
        "jax_memory_limit_bytes": stats.get("bytes_limit"),
        "compute_capability": getattr(device, "compute_capability", None),
        "runtime": re.sub(r"\s+", " ", str(device.client.platform_version)).strip(),
    }
    return {"gpu": facts | nvml_facts(device)}


def nvml_facts(device: Any) -> dict[str, Any]:
    """Driver, memory, clocks and limits from NVIDIA's management library; a reason where it is absent."""
    gpu = open_nvml(device)
    if isinstance(gpu, str):
        return {"nvml": f"absent: {gpu}"}
    with gpu:
        facts = gpu.facts()
    return {"nvml": f"absent: {facts}"} if isinstance(facts, str) else facts


def open_nvml(device: Any) -> Gpu | str:
    """What NVIDIA's management library knows a JAX device as, or the reason why it does not."""
    return open_gpu(int(getattr(device, "local_hardware_id", None) or 0))


def cpu_model() -> str:
    """The processor's name, as the system gives it."""
    info = Path("/proc/cpuinfo")
    if info.exists():
        match = re.search(r"^model name\s*:\s*(.+)$", info.read_text(), re.MULTILINE)
        if match:
            return match.group(1).strip()
    return platform.processor() or platform.machine()


def host_id() -> str | None:
    """Tells machines apart without naming them: a hash of the machine's id."""
    for path in ("/etc/machine-id", "/proc/sys/kernel/random/boot_id"):
        if Path(path).exists() and (text := Path(path).read_text().strip()):
            return hashlib.sha256(text.encode()).hexdigest()[:12]
    return None


def cgroup_quota() -> float | None:
    """Cores' worth of time that a container may use, or None where nothing limits it."""
    line = _cgroup_text("cpu.max")
    if line is None or line.startswith("max"):
        return None
    quota, period = line.split()
    return int(quota) / int(period)


def keep_to(cores: int) -> None:
    """Run on no more than so many of the cores that this process may use: the first ones, by number.

    Threads inherit it; XLA sizes its pool by it.
    """
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:cores])


def _affinity() -> int:
    # macOS has no affinity masks.
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _cgroup_text(name: str) -> str | None:
    path = Path("/sys/fs/cgroup") / name  # version 2, as seen from inside a container
    return path.read_text().strip() if path.is_file() else None


def _cgroup_number(name: str) -> int | None:
    text = _cgroup_text(name)
    return int(text) if text and text.isdigit() else None


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _why_none(jax_version: str, error: str) -> str:
    plugins = [
        name for name in ("jax-cuda13-plugin", "jax-cuda12-plugin", "jax-rocm7-plugin") if _version(name)
    ]
    if not plugins:
        return f"JAX {jax_version} found no GPU: it has no GPU plugin here, so only the CPU"
    reason = without_secrets(error).splitlines()[0][:300] if error else "no reason given"
    return f"JAX {jax_version} found no GPU: {', '.join(plugins)} found no usable device ({reason})"


def _install_hint() -> str:
    if sys.platform == "darwin":
        return "JAX supports no GPU of this machine: use device=cpu"
    return (
        "for an NVIDIA GPU whose driver is of version 580 or later, install CUDA support: "
        "pip install -c constraints.txt '.[cuda]' in a checkout, or pip install 'jax[cuda13]'"
    )

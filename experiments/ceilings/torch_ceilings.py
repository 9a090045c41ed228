"""What PyTorch reaches where jaxaccel's ceilings are measured: run it with OUT.json as its argument.

The same sizes as jaxaccel/session/ceilings.py, on random data of zero mean, with CUDA events around queued
calls, after a warm-up of as long. Needs PyTorch with CUDA. Run it beside jaxaccel with ceilings=fresh.
"""

import json
import sys
from collections.abc import Callable
from pathlib import Path

import torch

WARM_CALLS, ROUNDS = 5, 8
ROUND_S = 0.05


def best_s(call: Callable[[], object]) -> float:
    """Seconds of a call, by the best of a few rounds of queued calls."""

    def timed(calls: int) -> float:
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        for _ in range(calls):
            call()
        end.record()
        torch.cuda.synchronize()
        return start.elapsed_time(end) / 1e3 / calls

    typical_s = timed(WARM_CALLS)
    calls = max(3, int(ROUND_S / typical_s))
    timed(calls)
    return min(timed(calls) for _ in range(ROUNDS))


def random(*shape: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """Uniform in (-1, 1), on the GPU."""
    return (torch.rand(*shape, device="cuda") * 2 - 1).to(dtype)


def matmuls() -> dict[str, float]:
    """FLOP/s of square products, by dtype and precision, the best of the sizes."""
    found = {}
    for name, dtype, tf32 in (
        ("float32 highest", torch.float32, False),
        ("float32 default", torch.float32, True),
        ("bfloat16 highest", torch.bfloat16, False),
        ("float64 highest", torch.float64, False),
    ):
        torch.backends.cuda.matmul.allow_tf32 = tf32
        for n in (4096, 8192):
            a, b = random(n, n, dtype=dtype), random(n, n, dtype=dtype)
            rate = 2.0 * n**3 / best_s(lambda a=a, b=b: a @ b)
            found[f"matmul {name}"] = max(rate, found.get(f"matmul {name}", 0.0))
    return found


def streams() -> dict[str, float]:
    """Bytes a second over a working set of 1 GiB; `read` by the better of one sum and the sums of rows."""
    whole = 1 << 28
    x = random(whole)
    rows = x.view(-1, 4096)
    read = x.nbytes / min(best_s(x.sum), best_s(lambda: rows.sum(1)))
    a, b = random(whole // 2), random(whole // 2)
    copy = 2 * a.nbytes / best_s(lambda: torch.neg(a, out=b))
    a, b, c = (random(whole // 3) for _ in range(3))
    triad = 3 * a.nbytes / best_s(lambda: torch.add(b, c, alpha=3.0, out=a))
    return {"stream read": read, "stream copy": copy, "stream triad": triad}


def transfers() -> dict[str, float]:
    """Bytes a second between host and device, 1 GiB."""
    on_gpu = random(1 << 28)
    pageable = torch.rand(1 << 28)
    pinned = pageable.pin_memory()
    n = on_gpu.nbytes
    return {
        "h2d": n / best_s(lambda: on_gpu.copy_(pageable)),
        "h2d_pinned": n / best_s(lambda: on_gpu.copy_(pinned, non_blocking=True)),
        "d2h": n / best_s(on_gpu.cpu),
        "d2h_pinned": n / best_s(lambda: pinned.copy_(on_gpu, non_blocking=True)),
    }


if __name__ == "__main__":
    rates = matmuls() | streams() | transfers()
    document = {
        "gpu": torch.cuda.get_device_name(),
        "torch": torch.__version__,
        "unit": "FLOP/s of matmul, else bytes/s",
        "rates_per_s": rates,
    }
    Path(sys.argv[1]).write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    for name, rate in rates.items():
        print(f"{name:24s} {rate / 1e9:10.1f} G/s")

"""What a session asks a worker to open, of own code in a module."""

from jaxaccel.records import Arm, Case, Metric
from jaxaccel.records.messages import Open


def request(name: str, *, size: int = 8, dtype: str = "float32") -> Open:
    params = {"fn": f"{name}:fn", "args": f"{name}:make_args"}
    case = Case(
        workload="custom", size=size, dtype=dtype, precision="highest", variant="direct", params=params
    )
    arm = Arm(case=case, device="cpu", target="jaxaccel.workloads.custom:Custom")
    return Open(key=f"{name}-{size}", arm=arm, metrics=(Metric.latency,))

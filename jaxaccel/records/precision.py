"""Floating-point types and the precision of matrix products."""

from enum import StrEnum


class Dtype(StrEnum):
    """Floating-point type of a workload's data."""

    float32 = "float32"
    bfloat16 = "bfloat16"
    float16 = "float16"
    float64 = "float64"


class Precision(StrEnum):
    """Matrix-product precision in JAX's words; on recent GPUs only `highest` computes float32 as float32."""

    highest = "highest"
    high = "high"
    default = "default"

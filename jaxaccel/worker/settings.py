"""Refuses, records or flags the JAX settings that own code or the environment has changed."""

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

import jax

from jaxaccel.records import DEBUG_SETTING, SETTING, SETTING_IGNORED, Flag
from jaxaccel.worker.process_state import ABSENT, ENVIRONMENT, JAX, Key, State
from jaxaccel.workloads.importing import BadCodeError

X64, NO_JIT = "jax_enable_x64", "jax_disable_jit"

# Where variables are read when JAX starts: set later, they change nothing.
_READ_AT_START = ("XLA_", "JAX_", "CUDA_", "OMP_", "NVIDIA_", "NCCL_")
# Settings that say where files are. Paths are in no record.
_PLACES = ("_dir", "_to", "_path", "_addresses", "_address")
_TRUE = ("1", "true", "yes", "on", "y", "t")  # as JAX reads its variables


@dataclass(frozen=True, kw_only=True)
class Setting:
    """A setting of JAX that changes times or results where it is not `usual`: the flag's name, and how."""

    usual: Any
    flag: str
    effect: str


_DEBUG = "for debugging: calls take longer than without it"
CHANGING: Mapping[str, Setting] = {
    "jax_debug_nans": Setting(
        usual=False, flag=DEBUG_SETTING, effect=f"each result is searched for NaN, {_DEBUG}"
    ),
    "jax_debug_infs": Setting(
        usual=False, flag=DEBUG_SETTING, effect=f"each result is searched for infinity, {_DEBUG}"
    ),
    "jax_check_tracer_leaks": Setting(
        usual=False,
        flag=DEBUG_SETTING,
        effect="for debugging: tracing takes longer, and nothing traced is reused",
    ),
    "jax_enable_checks": Setting(
        usual=False, flag=DEBUG_SETTING, effect="JAX checks itself: tracing takes longer"
    ),
    "jax_debug_key_reuse": Setting(
        usual=False, flag=DEBUG_SETTING, effect="keys are checked: tracing takes longer"
    ),
    "jax_disable_most_optimizations": Setting(
        usual=False, flag=DEBUG_SETTING, effect="XLA leaves most optimizations out: the program is slower"
    ),
    "jax_experimental_unsafe_xla_runtime_errors": Setting(
        usual=False, flag=DEBUG_SETTING, effect="checks run inside of the program"
    ),
    "jax_pallas_enable_debug_checks": Setting(
        usual=False, flag=DEBUG_SETTING, effect="checks run inside of Pallas kernels"
    ),
    "jax_log_compiles": Setting(usual=False, flag=SETTING, effect="compiling takes longer"),
    "jax_explain_cache_misses": Setting(usual=False, flag=SETTING, effect="tracing takes longer"),
    "jax_default_matmul_precision": Setting(
        usual=None,
        flag=SETTING_IGNORED,
        effect="it holds only where the arguments are made: `precision` decides for what is measured",
    ),
    "jax_numpy_dtype_promotion": Setting(
        usual="standard", flag=SETTING, effect="types of results may be others, or be refused"
    ),
    "jax_default_prng_impl": Setting(
        usual="threefry2x32", flag=SETTING, effect="random numbers are others, and take another time"
    ),
    "jax_threefry_partitionable": Setting(usual=True, flag=SETTING, effect="random numbers are others"),
    "jax_random_seed_offset": Setting(usual=0, flag=SETTING, effect="random numbers are others"),
    "jax_default_device": Setting(
        usual=None, flag=SETTING, effect="what is measured has its arguments on the device that was asked for"
    ),
    "jax_optimization_level": Setting(usual="UNKNOWN", flag=SETTING, effect="XLA makes another program"),
    "jax_memory_fitting_level": Setting(usual="O2", flag=SETTING, effect="XLA makes another program"),
    "jax_exec_time_optimization_effort": Setting(usual=0.0, flag=SETTING, effect="XLA makes another program"),
    "jax_memory_fitting_effort": Setting(usual=0.0, flag=SETTING, effect="XLA makes another program"),
    "jax_compiler_enable_remat_pass": Setting(usual=True, flag=SETTING, effect="XLA makes another program"),
    "jax_use_direct_linearize": Setting(usual=True, flag=SETTING, effect="derivatives are other programs"),
    "jax_allow_f16_reductions": Setting(usual=True, flag=SETTING, effect="sums of halves are other programs"),
    "jax_enable_pgle": Setting(
        usual=False, flag=SETTING, effect="a program is compiled again after some calls"
    ),
    "jax_high_dynamic_range_gumbel": Setting(usual=False, flag=SETTING, effect="random numbers are others"),
}


def refuse(dtype: str | None, setter: Callable[[Key], str | None]) -> None:
    """Stop where a setting makes a case of this dtype compute something other than its label says.

    `setter` is the module that made a setting. dtype: None, where only what holds for any is looked at.

    **Raises** BadCodeError, naming the setting, who made it, and what to do.
    """
    if jax.config.values[NO_JIT]:
        module = setter((JAX, NO_JIT))
        variable = NO_JIT.upper() if module is None and NO_JIT.upper() in os.environ else None
        said = f"{variable} is set in the environment" if variable else f"{NO_JIT} is set{_by(module)}"
        todo = "unset it" if variable else "remove the setting"
        raise BadCodeError(f"{said}: without jit there is no compiled program to measure; {todo}")
    wide = jax.config.values[X64]
    if dtype is None or wide == (dtype == "float64"):
        return
    said = f"`dtype` is {dtype}, but {X64} is set to {wide}{_by(setter((JAX, X64)))}"
    raise BadCodeError(f"{said}: {'use dtype=float64, or ' if wide else ''}remove the setting")


def recorded(made: State) -> dict[str, str]:
    """Those of JAX's settings among what own code has changed, as a record has them."""
    return {
        name: _text(value)
        for (kind, name), value in made.items()
        if kind == JAX and name not in (X64, NO_JIT) and not name.endswith(_PLACES) and value is not ABSENT
    }


def flags(dtype: str, made: State, setter: Callable[[Key], str | None]) -> Iterator[Flag]:
    """What must be told of the settings as they are; `made` is what own code has changed of them."""
    values = jax.config.values
    for name, setting in CHANGING.items():
        somebodys = (JAX, name) in made or name.upper() in os.environ
        if somebodys and name in values and _text(values[name]) != _text(setting.usual):
            module = setter((JAX, name))
            by = f" by {name.upper()} of the environment" if (JAX, name) not in made else _by(module)
            message = f"{name}={_text(values[name])}, set{by}: {setting.effect}"
            yield Flag(name=setting.flag, metric=None, message=message)
    for (kind, name), value in made.items():
        if kind == ENVIRONMENT and name.startswith(_READ_AT_START):
            done = "removed" if value is ABSENT else "set"
            message = (
                f"{name} was {done} by {setter((kind, name)) or 'the code'} "
                "when JAX was running already, which has no effect: set it in the environment of the command"
                f"{', or use device.flags' if name == 'XLA_FLAGS' else ''}"
            )
            yield Flag(name=SETTING_IGNORED, metric=None, message=message)
    variable = X64.upper()
    asked = os.environ.get(variable, "").lower() in _TRUE and (ENVIRONMENT, variable) not in made
    if asked and dtype != "float64":
        message = f"{variable} of the environment has no effect: `dtype`={dtype} decides"
        yield Flag(name=SETTING_IGNORED, metric=None, message=message)


def _by(module: str | None) -> str:
    return f" by the module {module}" if module else " by the code"


def _text(value: Any) -> str:
    return str(value.value if isinstance(value, Enum) else value)

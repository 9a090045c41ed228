"""The frameworks that JAX is measured against, and the library that each one is a way to use."""

import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass

from jaxaccel.records import DEVICES
from jaxaccel.records.errors import BadInputError

WORKLOADS = ("matvec", "dot", "mlp", "mlp_article", "training")  # those that peers are written for


@dataclass(frozen=True, kw_only=True)
class Library:
    """A package that a worker imports: its name, and what to install to have it."""

    package: str
    install: str

    @property
    def installed(self) -> bool:
        """Whether it is there, without importing it."""
        return importlib.util.find_spec(self.package) is not None


@dataclass(frozen=True, kw_only=True)
class Framework:
    """One way to use a library, on the devices where it makes sense; `meaning` is what of it is timed.

    dtypes: those that it has fast products of; None: all. feeds: the ways that it has of feeding the workload
    training; scan is one program of a whole epoch.
    """

    name: str
    library: str
    devices: Sequence[str]
    meaning: str
    dtypes: Sequence[str] | None = None
    feeds: Sequence[str] = ("resident", "copied")


LIBRARIES = {
    "numpy": Library(package="numpy", install="numpy"),
    "torch": Library(package="torch", install="torch"),
    "tensorflow": Library(package="tensorflow", install="tensorflow-cpu"),
}
FRAMEWORKS = {
    framework.name: framework
    for framework in (
        Framework(
            name="numpy", library="numpy", devices=("cpu",), meaning="NumPy", dtypes=("float32", "float64")
        ),
        Framework(name="torch", library="torch", devices=DEVICES, meaning="PyTorch, op by op"),
        Framework(
            name="torch_compile", library="torch", devices=DEVICES, meaning="PyTorch, a step by torch.compile"
        ),
        Framework(
            name="torch_cuda_graph",
            library="torch",
            devices=("gpu",),
            meaning="PyTorch, all steps of a call as one CUDA graph",
            feeds=("scan",),
        ),
        Framework(
            name="torch_compile_graph",
            library="torch",
            devices=("gpu",),
            meaning="PyTorch, a step by torch.compile, and all steps of a call as one CUDA graph",
            feeds=("scan",),
        ),
        Framework(
            name="tensorflow",
            library="tensorflow",
            devices=("cpu",),
            meaning="TensorFlow, all steps of a call as one tf.function",
            feeds=("scan", "resident", "copied"),
        ),
    )
}


def chosen(names: Sequence[str] | None) -> list[Framework]:
    """The frameworks that `names` give, or all.

    **Raises** BadInputError for a name that is none.
    """
    for name in names or ():
        if name not in FRAMEWORKS:
            raise BadInputError(f"`peers.frameworks` must be some of {', '.join(FRAMEWORKS)}, got {name!r}")
    return [framework for name, framework in FRAMEWORKS.items() if names is None or name in names]


def missing_lines(frameworks: Sequence[Framework]) -> list[str]:
    """What is not installed of what these frameworks need, a line a library, and how to get it."""
    lines = []
    for name in dict.fromkeys(framework.library for framework in frameworks):
        library = LIBRARIES[name]
        if not library.installed:
            without = ", ".join(f.name for f in frameworks if f.library == name)
            hint = f"pip install {library.install}"
            lines.append(f"not measured, for {name} is not installed: {without} ({hint})")
    return lines

"""PyTorch on a CPU or a GPU: op by op, by torch.compile, and as CUDA graphs of either."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from jaxaccel.peers.worker.program import Program, answers_for, batches_of, fed_epoch, steps_of
from jaxaccel.peers.worker.torch_training import (
    Compiled,
    Eager,
    Training,
    checked,
    compile_once,
    on_host,
    tensor,
)
from jaxaccel.records import Case
from jaxaccel.worker.devices import NoDeviceError, cpu_model, host_available_bytes

WARM_CALLS = 3  # before a graph is captured, as PyTorch's notes on CUDA graphs ask for
COMPILED = ("torch_compile", "torch_compile_graph")
GRAPHS = ("torch_cuda_graph", "torch_compile_graph")


class TorchLibrary:
    """PyTorch on the first device of a kind.

    **Raises** NoDeviceError where it has none.
    """

    def __init__(self, device: str) -> None:
        import torch

        self._torch, self._on_gpu = torch, device == "gpu"
        if self._on_gpu and not torch.cuda.is_available():
            raise NoDeviceError(
                f"PyTorch {torch.__version__} found no GPU",
                "install a PyTorch with CUDA, for the driver that there is: see pytorch.org",
            )
        self._device = torch.device("cuda", 0) if self._on_gpu else torch.device("cpu")
        self.platform = self._device.type
        self.kind = torch.cuda.get_device_name(0) if self._on_gpu else cpu_model()
        self.count = torch.cuda.device_count() if self._on_gpu else 1
        self.trace = self._traced if self._on_gpu else None

    def environment(self) -> Mapping[str, Any]:
        """Threads on a CPU; CUDA and cuDNN on a GPU."""
        torch = self._torch
        known = {"version": str(torch.__version__), "threads": torch.get_num_threads()}
        if self._on_gpu:
            return known | {"cuda": torch.version.cuda, "cudnn": torch.backends.cudnn.version()}
        return known | {"mkl": torch.backends.mkl.is_available()}

    def capacity_bytes(self) -> int:
        """Memory that is free on the device."""
        return int(self._torch.cuda.mem_get_info()[0]) if self._on_gpu else host_available_bytes()

    def prepare(self, precision: str) -> None:
        """On a GPU, products of float32 at any precision but `highest` are TensorFloat-32, as JAX's are."""
        narrow = self._on_gpu and precision != "highest"
        self._torch.set_float32_matmul_precision("high" if narrow else "highest")

    def forget(self) -> None:
        """Compiled functions of other cases: of many shapes PyTorch would make one for any shape."""
        self._torch.compiler.reset()
        if self._on_gpu:
            self._torch.cuda.empty_cache()

    def program(self, framework: str, workload: Any, case: Case, inputs: Any) -> Program:
        """The case."""
        if case.workload not in ("matvec", "dot"):
            return self._training(framework, workload, case, inputs)
        a, b = (tensor(array, self._device) for array in inputs)
        function = _matvec if case.workload == "matvec" else _dot
        return self._simple(framework, function, a, b)

    def empty(self, framework: str) -> Program:
        """One added to a tensor of one number."""
        return self._simple(framework, _add_one, self._torch.zeros((), device=self._device))

    def _simple(self, framework: str, function: Callable[..., Any], *arguments: Any) -> Program:
        if framework in COMPILED:
            function = compile_once(function)
        call = _bound(function, *arguments)
        if framework in GRAPHS:
            call = self._captured(call, call)
        result = call()  # compiles; it counts as part of the first call
        return self._program(call, chained=False, output_bytes=result.numel() * result.element_size())

    def _training(self, framework: str, workload: Any, case: Case, inputs: Any) -> Program:
        torch = self._torch
        leaves, x, y = inputs
        compiled = framework in COMPILED

        def begin() -> Training:
            kind = Compiled if compiled else Eager
            return kind(leaves, workload.widths, self._device, captured=framework in GRAPHS)

        training, steps = begin(), steps_of(case)
        if case.workload == "training":
            return self._epochs(framework, workload, case, training)
        data = tensor(x, self._device), tensor(y, self._device)
        step = call = _bound(training.step, *data)
        if steps is not None:
            count = steps

            def call() -> Any:
                return torch.stack([step() for _ in range(count)])

        if framework in GRAPHS:
            call = self._captured(call, step)
            training.reset()

        def first_steps() -> Callable[[], float]:
            begun = begin()
            return lambda: float(begun.step(*data))

        return self._program(
            call,
            chained=True,
            output_bytes=8,
            run=answers_for(
                workload.widths,
                first_steps,
                lambda given, x, y: checked(given, x, y, self._device, compiled=compiled),
            ),
        )

    def _epochs(self, framework: str, workload: Any, case: Case, training: Training) -> Program:
        """A call is an epoch: a loop over steps, each fed as the case says, or one graph of all of them."""
        batches = [[tensor(array, "cpu") for array in batch] for batch in batches_of(workload, case.seed)]

        def place(batch: Sequence[Any]) -> list[Any]:
            """As the article's loop does; it awaits the copy, and with it what the device did before."""
            return [array.to(self._device) for array in batch]

        if framework in GRAPHS:
            there = [place(batch) for batch in batches]
            call = self._captured(
                lambda: self._torch.stack([training.step(*batch) for batch in there]),
                _bound(training.step, *there[0]),
            )
            training.reset()
        else:
            call = fed_epoch(workload.feed, batches, place, training.step)
        return self._program(call, chained=True, output_bytes=8 * len(batches), leaves=training.leaves)

    def _captured(self, call: Callable[[], Any], warm: Callable[[], Any]) -> Callable[[], Any]:
        """A function that replays `call` as a CUDA graph, and gives what that leaves each time in one place.

        `warm` is called first, on a stream of its own. What they work on stays where it is while the function
        lives: a graph knows nothing but addresses.
        """
        torch = self._torch
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(WARM_CALLS):
                warm()
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            result = call()

        def replay(_kept: Any = (call, warm)) -> Any:
            graph.replay()
            return result

        return replay

    def _program(
        self,
        call: Callable[[], Any],
        *,
        chained: bool,
        output_bytes: int,
        run: Callable[..., Any] = lambda *_: None,
        leaves: Callable[[], list[Any]] | None = None,
    ) -> Program:
        stream: Any = self._torch.cuda.current_stream() if self._on_gpu else None

        def wait(result: Any) -> Any:
            stream.synchronize()
            return result

        return Program(
            call=call,
            block=wait if self._on_gpu else _as_it_is,  # a CPU's calls return when they are done
            ready=(lambda _: bool(stream.query())) if self._on_gpu else (lambda _: True),
            fetch=on_host,
            run=run,
            chained=chained,
            output_bytes=output_bytes,
            leaves=leaves,
        )

    def _traced(self, run: Callable[[], None]) -> Sequence[Any]:
        """Kernels, and copies within the device, by PyTorch's profiler: CUPTI's times, as in JAX's."""
        from torch.autograd import DeviceType
        from torch.profiler import ProfilerActivity, profile

        from jaxaccel.worker.kernels import Event

        with profile(activities=[ProfilerActivity.CUDA]) as profiler:
            run()
            self._torch.cuda.synchronize()
        return [
            Event(event.name, 1e3 * event.time_range.start, 1e3 * event.time_range.elapsed_us())
            for event in profiler.events()
            if event.device_type == DeviceType.CUDA and not getattr(event, "is_user_annotation", False)
        ]


def _matvec(a: Any, x: Any) -> Any:
    """As anyone would write it."""
    return a @ x


def _dot(a: Any, b: Any) -> Any:
    """As anyone would write it."""
    return a.dot(b)


def _add_one(number: Any) -> Any:
    return number + 1


def _bound(function: Callable[..., Any], *arguments: Any) -> Callable[[], Any]:
    return lambda: function(*arguments)


def _as_it_is(result: Any) -> Any:
    return result

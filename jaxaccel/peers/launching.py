"""Workers of a session with peers: one process a library and device, which several arms may share."""

from collections.abc import Callable, Iterable

from jaxaccel.peers.frameworks import FRAMEWORKS
from jaxaccel.records import JAX
from jaxaccel.records.messages import COMPANIONS, Failure, Message, Started
from jaxaccel.session.session import WorkerLike
from jaxaccel.session.worker_process import Worker

Start = Callable[[str, str], WorkerLike]  # device, library


def arm_name(device: str, framework: str) -> str:
    """What an arm is called among those of its case: cpu, cpu:torch_compile."""
    return device if framework == JAX else f"{device}:{framework}"


def parts(name: str) -> tuple[str, str]:
    """The device and the framework of such a name."""
    device, _, framework = name.partition(":")
    return device, framework or JAX


def library_of(name: str) -> str:
    """The library whose worker the arm of such a name is measured in."""
    framework = parts(name)[1]
    return framework if framework == JAX else FRAMEWORKS[framework].library


def starter(names: Iterable[str]) -> Start:
    """Starts the workers of a session on a device that has arms of these names.

    A worker of JAX is the usual one, that of another leaves the device to its library. Each knows how many
    there are beside it.
    """
    beside = {COMPANIONS: str(len(set(map(library_of, names))) - 1)}

    def start(device: str, library: str) -> Worker:
        if library == JAX:
            return Worker(device, variables=beside)
        # Workloads, which have the data and the reference, import JAX: there it is not to take a GPU.
        variables = {"JAX_PLATFORMS": "cpu", **beside}
        return Worker(device, variables=variables, command=("jaxaccel.peers.worker", library))

    return start


class SharedLauncher:
    """Gives each arm its worker; arms of one library and device get the same one while it lives.

    With a process for each way to use PyTorch there would be five on a GPU, and idle ones slow down the one
    that works.
    """

    def __init__(self, start: Start) -> None:
        self._start = start
        self._current: dict[tuple[str, str], _Shared] = {}

    def __call__(self, name: str) -> "Share":
        """A share in the worker for the arm of this name."""
        device, library = parts(name)[0], library_of(name)
        shared = self._current.get((device, library))
        if shared is None or not shared.worker.alive or not shared.users:
            shared = self._current[device, library] = _Shared(self._start(device, library))
        return Share(shared)

    def stop(self) -> None:
        """End all that still live, whoever uses them."""
        for shared in self._current.values():
            shared.worker.stop()


class _Shared:
    """A worker, and how many still use it. `users` is 0 once it has been stopped."""

    def __init__(self, worker: WorkerLike) -> None:
        self.worker, self.users = worker, 0


class Share:
    """One arm's part in a worker, which ends with the last of its users."""

    def __init__(self, shared: _Shared) -> None:
        self._shared, self._stopped = shared, False
        self._first = not shared.users
        shared.users += 1

    @property
    def start_s(self) -> float:
        """What its start took; nothing for those that found it started."""
        return self._shared.worker.start_s if self._first else 0.0

    @property
    def alive(self) -> bool:
        """Whether it can still be asked."""
        return self._shared.worker.alive

    def ready(self) -> Started | Failure:
        """Wait for its start."""
        return self._shared.worker.ready()

    def ask(self, request: Message) -> Message:
        """Its answer."""
        return self._shared.worker.ask(request)

    def stop(self) -> None:
        """Leave it; the last one ends it."""
        if self._stopped:
            return
        self._stopped = True
        self._shared.users -= 1
        if not self._shared.users:
            self._shared.worker.stop()

"""What comes of the article's PyTorch training as it is printed, with BCELoss on raw outputs.

    python experiments/frameworks/as_printed.py cpu experiments/frameworks/as_printed_cpu.json
    python experiments/frameworks/as_printed.py cuda experiments/frameworks/as_printed_cuda.json

The network is torch.nn's, 10-50-1, from its own first weights, by the seed; batches and epochs are those of
workload=training, labels have the shape of outputs, and each batch is copied to the device. Some trainings
beside it have a sigmoid before the loss. Each has a process of its own: an assertion in a CUDA kernel leaves
its process without CUDA. Needs PyTorch; half a minute.
"""

import json
import multiprocessing
import sys
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from jaxaccel.worker.devices import cpu_model
from jaxaccel.workloads import tumours

SEEDS, SEEDS_WITH_SIGMOID = range(10), range(3)
HIDDEN, BATCH, EPOCHS = 50, 32, 100


@dataclass(frozen=True, kw_only=True)
class Went:
    """How far a training came: error is None where it came to its end.

    outside: outputs for its first batch that are no probability. loss: the mean of the last epoch.
    """

    seed: int
    outside: int
    updates: int
    error: str | None
    loss: float | None


def train(seed: int, device: str, with_sigmoid: bool) -> Went:
    """One training, until PyTorch stops it or all epochs are over."""
    data = tumours.split(seed)
    prepare = tumours.preparation(data, batch=BATCH, copies=1, dtype="float32", seed=seed)
    made = [prepare(number) for number in range(tumours.TRAINED // BATCH)]
    batches = [(torch.from_numpy(x), torch.from_numpy(y)[:, None]) for x, y in made]
    torch.manual_seed(seed)
    layers = [torch.nn.Linear(tumours.FEATURES, HIDDEN), torch.nn.ReLU(), torch.nn.Linear(HIDDEN, 1)]
    model = torch.nn.Sequential(*layers, *([torch.nn.Sigmoid()] if with_sigmoid else []))
    with torch.no_grad():  # on the host, where no assertion ends it
        first = model(batches[0][0])
        outside = int(((first < 0) | (first > 1)).sum())
    model.to(device)
    adam, loss_of = torch.optim.Adam(model.parameters(), lr=0.001), torch.nn.BCELoss()
    updates, losses = 0, list[float]()
    try:
        for _ in range(EPOCHS):
            losses = []
            for x, y in batches:
                loss = loss_of(model(x.to(device)), y.to(device))
                losses.append(loss.item())  # awaited: what went wrong is told here
                adam.zero_grad()
                loss.backward()
                adam.step()
                updates += 1
    except RuntimeError as error:  # that of CUDA is one, too
        told = str(error).splitlines()[0]
        return Went(seed=seed, outside=outside, updates=updates, error=told, loss=None)
    return Went(seed=seed, outside=outside, updates=updates, error=None, loss=sum(losses) / len(losses))


def apart(function: Callable[..., Any], *arguments: Any) -> Any:
    """What a function gives in a process of its own, begun without CUDA, but with all that was imported."""
    with multiprocessing.get_context("fork").Pool(1) as pool:
        return pool.apply(function, arguments)


def trainings(seeds: Iterable[int], device: str, with_sigmoid: bool) -> dict[str, object]:
    """One a seed, and what they have in common."""
    went = [apart(train, seed, device, with_sigmoid) for seed in seeds]
    return {
        "trainings": len(went),
        "finished": sum(one.error is None for one in went),
        "stopped_before_an_update": sum(one.error is not None and not one.updates for one in went),
        "errors": "; ".join(dict.fromkeys(one.error for one in went if one.error)) or None,
        "each": [asdict(one) for one in went],
    }


def main(device: str, target: str) -> None:
    """Train, and write `target`."""
    found = {
        "command": f"python experiments/frameworks/as_printed.py {device}",
        "device": cpu_model() if device == "cpu" else apart(torch.cuda.get_device_name),
        "torch": torch.__version__,
        "as_printed": trainings(SEEDS, device, with_sigmoid=False),
        "with_sigmoid": trainings(SEEDS_WITH_SIGMOID, device, with_sigmoid=True),
    }
    Path(target).write_text(json.dumps(found, indent=1) + "\n")
    print(json.dumps({name: found[name] for name in ("as_printed", "with_sigmoid")}, indent=1))


if __name__ == "__main__":
    main(*sys.argv[1:])

"""What hydra_plugins/ makes of Hydra's sweeps."""

import gc
import sys
from pathlib import Path
from typing import Any

import pytest
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.core.utils import JobReturn

from jaxaccel.cli.compose import compose


@pytest.fixture
def held(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[int]:
    """Whenever a job of a sweep of three is composed: how many earlier ones still have their configs."""
    found: list[int] = []
    load = ConfigLoaderImpl.load_sweep_config

    def returned() -> list[JobReturn]:
        return [thing for thing in gc.get_objects() if isinstance(thing, JobReturn)]

    before = returned()  # by other tests of this process

    def counted(self: ConfigLoaderImpl, *arguments: Any, **named: Any) -> Any:
        jobs = [job for job in returned() if not any(job is other for other in before)]
        found.append(sum(job.cfg is not None or job.hydra_cfg is not None for job in jobs))
        return load(self, *arguments, **named)

    monkeypatch.setattr(ConfigLoaderImpl, "load_sweep_config", counted)
    monkeypatch.setattr(sys, "argv", ["run"])
    monkeypatch.chdir(tmp_path)
    composed = compose(["-m", "size=8,16,32", "device=cpu"], "0123abcd")
    assert [job.config.case.size for job in composed.jobs] == [8, 16, 32]
    assert [job.folder.name.partition("-")[0] for job in composed.jobs] == ["0", "1", "2"]
    return found


@pytest.mark.slow
def test_a_job_is_composed_once_and_its_config_is_let_go_of(held: list[int]) -> None:
    assert held == [0, 0, 0]

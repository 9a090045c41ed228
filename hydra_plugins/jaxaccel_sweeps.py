"""Hydra's sweeper and launcher, by which a job is composed once, and its config is let go of.

Hydra looks for plugins in this folder, and in no other.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice

from hydra._internal.core_plugins.basic_launcher import BasicLauncher, BasicLauncherConf
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper, BasicSweeperConf
from hydra.core.config_store import ConfigStore
from hydra.core.override_parser.types import Override
from hydra.core.utils import JobReturn
from hydra.errors import HydraException

MOST_JOBS = 10_000


class OneByOne(BasicSweeper):
    """The basic sweeper, which would compose all jobs once more beforehand, and take as long again."""

    def validate_batch_is_legal(self, batch: Sequence[Sequence[str]]) -> None:
        """Compose the jobs, if the launcher would find out elsewhere what is wrong with them."""
        if not isinstance(self.launcher, BasicLauncher):
            super().validate_batch_is_legal(batch)

    @staticmethod
    def split_arguments(overrides: list[Override], max_batch_size: int | None) -> list[list[list[str]]]:
        """Each job's overrides; a sweep of more jobs than anybody waits for is refused before it is listed.

        **Raises** HydraException.
        """
        jobs = 1
        for override in overrides:
            if override.is_discrete_sweep():
                jobs *= len(list(islice(override.sweep_iterator(), MOST_JOBS + 1)))
        if jobs > MOST_JOBS:
            raise HydraException(f"a sweep must have at most {MOST_JOBS} jobs, got at least {jobs}")
        return BasicSweeper.split_arguments(overrides, max_batch_size)


class LettingGo(BasicLauncher):
    """The basic launcher, which would keep the config of each job, 0.1 MB, until the last is composed."""

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Launch them one after the other."""
        returns = []
        for number, overrides in enumerate(job_overrides, start=initial_job_idx):
            (job,) = super().launch([overrides], number)
            job.cfg = job.hydra_cfg = None
            returns.append(job)
        return returns


@dataclass
class OneByOneConf(BasicSweeperConf):
    """What Hydra makes a OneByOne of."""

    _target_: str = "hydra_plugins.jaxaccel_sweeps.OneByOne"


@dataclass
class LettingGoConf(BasicLauncherConf):
    """What Hydra makes a LettingGo of."""

    _target_: str = "hydra_plugins.jaxaccel_sweeps.LettingGo"


ConfigStore.instance().store(
    group="hydra/launcher", name="letting_go", node=LettingGoConf, provider="jaxaccel"
)
ConfigStore.instance().store(group="hydra/sweeper", name="one_by_one", node=OneByOneConf, provider="jaxaccel")

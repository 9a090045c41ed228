"""Hydra's sweeper, which composes each job once. Hydra looks for plugins in this folder, and in no other."""

from collections.abc import Sequence
from dataclasses import dataclass

from hydra._internal.core_plugins.basic_launcher import BasicLauncher
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper, BasicSweeperConf
from hydra.core.config_store import ConfigStore


class OneByOne(BasicSweeper):
    """The basic sweeper, which would compose all jobs once more beforehand, and take as long again."""

    def validate_batch_is_legal(self, batch: Sequence[Sequence[str]]) -> None:
        """Compose the jobs, if the launcher would find out elsewhere what is wrong with them."""
        if not isinstance(self.launcher, BasicLauncher):
            super().validate_batch_is_legal(batch)


@dataclass
class OneByOneConf(BasicSweeperConf):
    """What Hydra makes a OneByOne of."""

    _target_: str = "hydra_plugins.jaxaccel_sweeper.OneByOne"


ConfigStore.instance().store(group="hydra/sweeper", name="one_by_one", node=OneByOneConf, provider="jaxaccel")

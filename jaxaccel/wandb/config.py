"""Which W&B project gets the runs, and how."""

from dataclasses import dataclass
from enum import StrEnum

from jaxaccel.records.checks import require_text


class WandbMode(StrEnum):
    """Where Weights & Biases runs go; `auto` is online for those who are logged in, else offline."""

    auto = "auto"
    online = "online"
    offline = "offline"
    disabled = "disabled"


PROJECT = "jaxaccel"  # of W&B, as in conf/wandb


@dataclass(frozen=True, kw_only=True)
class WandbConfig:
    """Which Weights & Biases project gets the runs, and how."""

    mode: WandbMode
    project: str
    entity: str | None = None

    def __post_init__(self) -> None:
        require_text("wandb.project", self.project)
        if self.entity is not None:
            require_text("wandb.entity", self.entity)

"""What the files of conf/ say by themselves, for which Hydra would take a second."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf


def config_folder() -> Path:
    """The conf/ that a wheel carries inside the package, or the one beside it in a checkout."""
    package = Path(__file__).parent.parent
    inside = package / "conf"
    return inside if (inside / "config.yaml").is_file() else package.parent / "conf"


def usage() -> str:
    """What `--help` alone prints: the text of config.yaml, with the defaults that it tells of."""
    folder = config_folder()
    config = OmegaConf.load(folder / "config.yaml")
    for entry in config.pop("defaults"):
        if isinstance(entry, DictConfig):
            ((group, name),) = entry.items()
            path = folder / str(group) / f"{name}.yaml"
            if path.is_file():  # one is null, and some are of Hydra's own
                config[group] = OmegaConf.load(path)
    return str(config.hydra.help.template)


def target_of(workload: str) -> str | None:
    """The class that the config of this name in conf/workload names; None where there is no such config."""
    for path in sorted((config_folder() / "workload").glob("*.yaml")):
        config = OmegaConf.load(path)
        if config.get("name") == workload:
            return str(config["_target_"])
    return None


def renamed(workload: Mapping[str, Any], chosen: str, folders: Iterable[str]) -> str | None:
    """What is wrong with a composed workload that is not the one that was chosen by name; None if nothing is.

    A record of it would be paired with those of another workload. `folders` are those with configs; the name
    of a workload of ours stands for our class alone.
    """
    paths = (Path(folder) / "workload" / f"{chosen}.yaml" for folder in folders)
    written = next((OmegaConf.load(path) for path in paths if path.is_file()), None)
    for key in ("name", "_target_"):
        if written is not None and workload.get(key) != written.get(key):
            return (
                f"`workload.{key}` must be {written.get(key)!r}, as the config of workload={chosen} has it, "
                f"got {workload.get(key)!r}"
            )
    name, target = str(workload.get("name")), workload.get("_target_")
    if target != (ours := target_of(name) or target):
        return f"`workload.name` {name!r} is that of {ours}: give the config of {target!r} another name"
    return None

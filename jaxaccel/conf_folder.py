"""What the files of conf/ say by themselves, for which Hydra would take a second."""

from pathlib import Path

from omegaconf import DictConfig, OmegaConf


def config_folder() -> Path:
    """The conf/ that a wheel carries inside the package, or the one beside it in a checkout."""
    inside = Path(__file__).parent / "conf"
    return inside if (inside / "config.yaml").is_file() else Path(__file__).parent.parent / "conf"


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

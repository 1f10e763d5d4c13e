"""Environments, one folder each with the same file names; importing this registers them with PettingZoo, no more."""

if __name__ != "gridmarl.envs":
    raise ImportError("import gridmarl.envs, not envs: the folder at the repository root is not a package of its own")

from gridmarl.envs.registry import EnvEntry, environment, environments, make_batched

__all__ = ["EnvEntry", "environment", "environments", "make_batched"]

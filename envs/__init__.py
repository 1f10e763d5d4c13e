"""gridmarl.envs (see the package's own pages)."""

if __name__ != "gridmarl.envs":
    raise ImportError("import gridmarl.envs, not envs: the folder at the repository root is not a package of its own")

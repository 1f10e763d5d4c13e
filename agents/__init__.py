"""gridmarl.agents (see the package's own pages)."""

if __name__ != "gridmarl.agents":
    raise ImportError("import gridmarl.agents, not agents: the folder at the repository root is not a package of its own")

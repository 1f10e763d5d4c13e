"""Agents: deep Q-learning and heuristics on batched tensors, by name through `gridmarl.agents.registry`."""

if __name__ != "gridmarl.agents":
    raise ImportError(
        "import gridmarl.agents, not agents: the folder at the repository root is not a package of its own"
    )

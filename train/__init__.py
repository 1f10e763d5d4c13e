"""Training: settings, loop, checkpoints and logs; see `gridmarl.train.loop.train`."""

if __name__ != "gridmarl.train":
    raise ImportError("import gridmarl.train, not train: the folder at the repository root is not a package of its own")

"""gridmarl.train (see the package's own pages)."""

if __name__ != "gridmarl.train":
    raise ImportError("import gridmarl.train, not train: the folder at the repository root is not a package of its own")

"""gridmarl: multi-agent reinforcement-learning environments for blockchain-based local electricity markets.

Importing this package loads no data, no torch.compile and no environment; `gridmarl.envs`, `gridmarl.agents` and
`gridmarl.train` are imported by name.
"""

from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

try:
    __version__ = version("gridmarl")
except PackageNotFoundError:  # running from a checkout that was never installed
    __version__ = "0.0.0"

# The four folders stand at the repository root and are linked into this one. A checkout without symbolic links
# (Windows,
# an unpacked sdist) finds them one level up instead.
_root = Path(__file__).resolve().parent.parent
if (_root / "pyproject.toml").is_file() and not (_root / "gridmarl" / "envs").is_dir():
    __path__.append(str(_root))

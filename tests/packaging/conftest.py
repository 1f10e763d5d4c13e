"""The wheel, and a fresh environment with it outside the repository; built once for all tests of this folder.

Offline: the build backend is the installed one, and the fresh environment borrows the installed dependencies through a
path file (path files are not read recursively, so the editable gridmarl of the repository stays out of it).
"""

from __future__ import annotations

import sys
import sysconfig
from pathlib import Path

import pytest

from tests.packaging.processes import succeed


@pytest.fixture(scope="session")
def built(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with the sdist, and the wheel built from that sdist."""
    out = tmp_path_factory.mktemp("dist")
    succeed([sys.executable, "-m", "build", "--no-isolation", "--outdir", out, repository], out)
    return out


@pytest.fixture(scope="session")
def wheel(built: Path) -> Path:
    (path,) = built.glob("*.whl")
    return path


@pytest.fixture(scope="session")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`bin` folder of a fresh environment outside the repository with the wheel in it."""
    home = tmp_path_factory.mktemp("fresh") / "venv"
    succeed([sys.executable, "-m", "venv", "--without-pip", home], home.parent)
    binaries = home / ("Scripts" if sys.platform == "win32" else "bin")
    pip: list[str | Path] = [sys.executable, "-m", "pip", "--python", binaries / "python"]
    succeed([*pip, "install", "--quiet", "--no-deps", "--no-index", "--no-compile", wheel], home.parent)
    code = "import sysconfig; print(sysconfig.get_path('purelib'))"
    site_packages = Path(succeed([binaries / "python", "-c", code], home.parent).strip())
    (site_packages / "borrowed.pth").write_text(sysconfig.get_path("purelib") + "\n", encoding="utf-8")
    return binaries

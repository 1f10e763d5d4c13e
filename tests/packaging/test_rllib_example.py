"""RLlib's PPO on the PettingZoo environment, where the older Gymnasium is that RLlib asks for."""

from __future__ import annotations

import re
import subprocess
import sys
import sysconfig
import time
from pathlib import Path

import numpy as np
import pytest

from tests.packaging.processes import clean_environment, run, succeed
from tests.packaging.readme import fenced_blocks, shell_commands, smaller
from tests.train.sweep_processes import Process, alive, descendants

pytestmark = pytest.mark.slow
SMALLER = {"python examples/rllib/rllib_ppo.py": "--iterations 2 --episodes 2 --prosumers 3"}
UNREACHABLE = re.compile(
    "Failed to establish a new connection|Max retries exceeded|Name or service not known|ProxyError|ReadTimeout|"
    "Temporary failure in name resolution|Network is unreachable"
)
DIFFERING = {"gymnasium"}
PATIENCE_S = 480.0


def pins(path: Path) -> dict[str, str]:
    """Version by name."""
    lines = [line for line in path.read_text(encoding="utf-8").splitlines() if line and not line.startswith("#")]
    parts = [line.split("==") for line in lines]
    assert all(len(part) == 2 for part in parts), "a pin is name==version"
    found = {name.lower().replace("_", "-"): version for name, version in parts}
    assert len(found) == len(parts), "a package is pinned twice"
    return found


@pytest.fixture(scope="module")
def commands(repository: Path) -> tuple[str, str]:
    blocks = fenced_blocks((repository / "examples" / "rllib" / "README.md").read_text(encoding="utf-8"))
    install, program = [line for block in blocks if block.language == "bash" for line in shell_commands(block.text)]
    return install, program


@pytest.fixture(scope="module")
def python(repository: Path, wheel: Path, commands: tuple[str, str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Interpreter of an environment made as the README says; what fits is borrowed from that of the tests."""
    home = tmp_path_factory.mktemp("rllib") / "venv"
    succeed([sys.executable, "-m", "venv", "--without-pip", home], home.parent)
    python = home / ("Scripts" if sys.platform == "win32" else "bin") / "python"
    pip: list[str | Path] = [sys.executable, "-m", "pip", "--python", python, "install", "--quiet"]
    succeed([*pip, "--no-deps", "--no-index", wheel], home.parent)
    code = "import sysconfig; print(sysconfig.get_path('purelib'))"
    site_packages = Path(succeed([python, "-c", code], home.parent).strip())
    (site_packages / "borrowed.pth").write_text(sysconfig.get_path("purelib") + "\n", encoding="utf-8")
    constraint = repository / "examples" / "rllib" / "constraints.txt"
    assert commands[0] == "pip install --constraint examples/rllib/constraints.txt . 'ray[rllib]'"
    told = run([*pip, "--constraint", constraint, "ray[rllib]"], home.parent, timeout_s=PATIENCE_S)
    if told.returncode and UNREACHABLE.search(told.stderr):
        pytest.skip("the package index cannot be reached")
    assert told.returncode == 0, told.stderr
    return python


def test_its_pins_are_the_main_ones_but_for_gymnasium(repository: Path) -> None:
    own, main = (pins(repository / name) for name in ("examples/rllib/constraints.txt", "constraints.txt"))
    assert {name for name in own.keys() & main.keys() if own[name] != main[name]} == DIFFERING
    assert {"ray", "gymnasium", "torch", "pettingzoo"} <= own.keys()


def test_it_trains(repository: Path, python: Path, commands: tuple[str, str], tmp_path: Path) -> None:
    command = smaller(commands[1], SMALLER)
    assert command != commands[1]
    (tmp_path / "examples").symlink_to(repository / "examples")
    started: set[Process] = set()
    with subprocess.Popen(
        [python, *command.split()[1:]], cwd=tmp_path, env=clean_environment(), text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    ) as process:  # fmt: skip
        try:
            deadline = time.monotonic() + PATIENCE_S
            while process.poll() is None and time.monotonic() < deadline:
                started |= descendants(process.pid)
                time.sleep(0.2)
        finally:
            process.kill()
        shown = process.communicate()[0]
    assert process.returncode == 0, shown
    rows = re.findall(r"^iteration \d+: return (\S+) tokens, (\S+) hours$", shown, re.MULTILINE)
    assert len(rows) == 2, shown
    assert np.isfinite([float(mean) for mean, _ in rows]).all()
    assert [hours for _, hours in rows] == ["24.0", "24.0"]
    assert len(started) > 1
    while alive(started) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not alive(started)


def test_both_ways_to_wrap_the_market(repository: Path, python: Path, tmp_path: Path) -> None:
    """RLlib's own wrapper gives the market's observations and rewards, the example's squeezed ones and gains."""
    code = """
import sys, gymnasium, gridmarl, numpy as np
sys.path.insert(0, sys.argv[1])
from rllib_ppo import OUTSIDE_OPTION, Market
from ray.rllib.env.wrappers.pettingzoo_env import ParallelPettingZooEnv
from gridmarl.envs.two_stage_dr.env import parallel_env
from gridmarl.scenarios.registry import named_scenario
options = {"num_prosumers": 2, "horizon_hours": 5}
plain = ParallelPettingZooEnv(parallel_env(scenario=named_scenario("toy"), **options))
ours = Market({"scenario": "toy", **options})
seen, squeezed = plain.reset(seed=3)[0], ours.reset(seed=3)[0]
for hour in range(5):
    assert set(seen) == set(squeezed) == {"prosumer_0", "prosumer_1"}
    assert all(ours.observation_spaces[name].contains(row) for name, row in squeezed.items())
    assert all(np.allclose(np.sign(row) * np.log1p(abs(row)), squeezed[name]) for name, row in seen.items())
    outside = {name: float(row[OUTSIDE_OPTION]) for name, row in seen.items()}
    actions = {name: np.zeros(3, np.float32) for name in seen}
    seen, rewards, _, ended, _ = plain.step(actions)
    squeezed, gains, _, over, _ = ours.step(actions)
    assert gains == {name: rewards[name] - outside[name] for name in rewards}
    assert ended["__all__"] == over["__all__"] == (hour == 4)
print(gymnasium.__version__, gridmarl.__file__)
"""
    shown = succeed([python, "-c", code, repository / "examples" / "rllib"], tmp_path)
    version, place = shown.split()[-2:]
    assert version == pins(repository / "examples" / "rllib" / "constraints.txt")["gymnasium"]
    assert not place.startswith(str(repository))

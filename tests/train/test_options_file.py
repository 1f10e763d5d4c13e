"""Options of a command from a file, merged with the command line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.train.command_line import gridmarl, strict_json

SMALL = {
    "agent": "ppo",
    "steps": 96,
    "lanes": 4,
    "days": 1,
    "eval_lanes": 1,
    "set": ["num_prosumers=3", "alpha_permille=1500"],
    "agent_set": {"hidden": [8], "rollout_steps": 12},
}
TOML = """
agent = "ppo"
steps = 96
lanes = 4
days = 1
eval_lanes = 1
set = ["num_prosumers=3", "alpha_permille=1500"]
[agent_set]
hidden = [8]
rollout_steps = 12
"""


def trained(folder: Path, *arguments: object) -> dict[str, object]:
    outcome = gridmarl("train", *arguments, "--run-dir", folder)
    assert (outcome.code, outcome.err) == (0, "")
    config: dict[str, object] = strict_json(folder / "config.json")
    return config


def test_json_toml_and_the_config_of_a_run_say_the_same(tmp_path: Path) -> None:
    (tmp_path / "o.json").write_text(json.dumps(SMALL))
    (tmp_path / "o.toml").write_text(TOML)
    first = trained(tmp_path / "a", "two-stage-dr", "--options", tmp_path / "o.json")
    assert first["agent_options"] == {"hidden": [8], "rollout_steps": 12}
    assert (first["agent"], first["total_steps"], first["num_envs"]) == ("ppo", 96, 4)
    for index, file in enumerate((tmp_path / "o.toml", tmp_path / "a" / "config.json")):
        again = trained(tmp_path / f"again{index}", "--options", file)
        for name in ("agent_options", "env_options", "agent", "total_steps", "num_envs", "seed"):
            assert again[name] == first[name], name


def test_the_command_line_wins_setting_by_setting(tmp_path: Path) -> None:
    (tmp_path / "o.json").write_text(json.dumps(SMALL))
    config = trained(
        tmp_path / "a", "--options", tmp_path / "o.json", "--steps", "48", "--set", "alpha_permille=1400",
        "--agent-set", "epochs=1",
    )  # fmt: skip
    assert config["total_steps"] == 48
    assert config["num_envs"] == 4
    assert config["agent_options"] == {"hidden": [8], "rollout_steps": 12, "epochs": 1}
    params = config["env_options"]
    assert isinstance(params, dict)
    assert (params["num_prosumers"], params["alpha_permille"]) == (3, 1400)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("o.json", "{", "o.json: not JSON"),
        ("o.toml", "steps = ", "o.toml: not TOML"),
        ("o.json", "[]", "o.json: holds list, allowed is an object of options"),
        ("o.json", '{"lane": 3}', "o.json: unknown option 'lane'; allowed are env, "),
        ("o.json", '{"steps": "many"}', "o.json: Error parsing --steps: invalid literal for int()"),
        ("o.json", '{"steps": {"a": 1}}', "o.json: steps: {'a': 1}, allowed are numbers, text"),
        ("o.json", '{"steps": 0}', "steps: 0, allowed are 1"),
        ("o.json", '{"ledger": "none"}', "o.json: "),
        ("o.json", '{"resume": true}', "o.json: unknown option 'resume'"),
    ],
)
def test_bad_files(name: str, text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_text(text)
    outcome = gridmarl("train", "--options", path, "--run-dir", tmp_path / "run")
    assert outcome.code == 2
    assert message in outcome.err
    assert not (tmp_path / "run").exists()


def test_no_such_file(tmp_path: Path) -> None:
    outcome = gridmarl("train", "--options", tmp_path / "nothing.json")
    assert outcome.err == f"gridmarl: error: options: {tmp_path / 'nothing.json'}: No such file or directory\n"

"""EVQuota's own settings of learners: each is one its agent takes, and what the user sets wins."""

from __future__ import annotations

import pytest

from gridmarl.agents.dqn import DQN
from gridmarl.agents.ppo import MAPPO, PPO
from gridmarl.envs.ev_quota.batched import BatchedEVQuota
from gridmarl.envs.ev_quota.params import EVQuotaParams
from gridmarl.errors import ConfigError
from gridmarl.train.config import TrainConfig
from gridmarl.train.loop import build_agent
from gridmarl.train.quota.settings import LEARNING, agent_options


@pytest.mark.parametrize("name", sorted(LEARNING))
def test_the_agent_takes_its_settings_and_they_are_not_its_defaults(name: str) -> None:
    env = BatchedEVQuota(EVQuotaParams(num_stations=2, action_space="discrete"), num_envs=2)
    agent = build_agent(env, TrainConfig(env.env_id, name, num_envs=2, agent_options=agent_options(name, ())))
    plain = build_agent(env, TrainConfig(env.env_id, name, num_envs=2))
    for made in (agent, plain):
        assert isinstance(made, DQN | PPO | MAPPO)
    for option, value in LEARNING[name].items():
        assert getattr(agent.config, option) == value  # type: ignore[attr-defined]
        assert getattr(plain.config, option) != value  # type: ignore[attr-defined]


def test_what_the_user_sets_wins() -> None:
    assert agent_options("dqn", ["discount=0.5", "hidden=[8]"]) == {**LEARNING["dqn"], "discount": 0.5, "hidden": [8]}
    assert agent_options("quota_truthful", ()) == {}
    assert LEARNING["dqn"]["discount"] == 0.99
    with pytest.raises(ConfigError, match=r"setting 'discount': allowed is name=value"):
        agent_options("dqn", ["discount"])

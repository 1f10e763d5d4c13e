"""Fresh learners of a best response, one for each prosumer, trained side by side against a policy that stays as it is.

Lanes come in `G` groups of `L` and one more: in group `g` prosumer `who[g]` deviates as its learner says and all others
play the policy; in the last group nobody deviates. All groups have the same draws, and a learner's reward is what its
prosumer gets in its group less what it gets in the last one. That takes away most of the noise and, since the last
group does not depend on the learner, changes no best response.

To the learning algorithm, group `g` is agent `g` of `G` with an own network, so one batched call trains all learners;
none ever sees another's observations, actions or rewards. A learner sees what its prosumer sees, and chooses among
transforms of the policy's own action for it (`learner_choices`), the first of which keeps it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from gridmarl.agents.registry import make_agent
from gridmarl.contracts.two_stage import Phase
from gridmarl.envs.two_stage_dr.observe import fields_of
from gridmarl.errors import ConfigError
from gridmarl.protocols import ActionSpec, Agent, AgentContext, Transition
from gridmarl.train.deviations.family import apply, learner_choices
from gridmarl.train.deviations.lanes import MAX_LANES, Market, entries_of_stage, hours_of_day, play_deviations
from gridmarl.train.deviations.policy import FrozenPolicy
from gridmarl.units import UTOK_PER_TOKEN

LEARNERS: dict[str, dict[str, Any]] = {
    "ppo": {"policy": "independent", "minibatches": 4, "outside_option": "ignore"},
    "dqn": {"policy": "independent", "batch_size": 128, "learning_starts": 500, "outside_option": "ignore"},
}
"""Algorithms, and the options that differ from their own defaults."""
TRAINING_LANES = 16
TRAINING_PARTS = 100


@dataclass(frozen=True)
class LearnedDeviations:
    """What `G` trained learners gain in each of `E` test lanes, and how far they leave the policy's actions."""

    gain_utok: Tensor  # [G, E] int64
    changed: Tensor  # [G, size] float32: share of the choices in which an entry changes
    shift: Tensor  # [G, size] float32: mean change of an entry, over all choices


def learned_deviations(
    market: Market,
    agent: Agent,
    policy: FrozenPolicy,
    prosumers: Sequence[int],
    episode: int,
    own_utok: Tensor,
    *,
    algorithm: str,
    steps: int,
    seed: int,
    max_lanes: int = MAX_LANES,
    advance: Callable[[], None] = lambda: None,
) -> LearnedDeviations:
    """Train on the draws of `seed`, then measure without exploration in the given episode of the market.

    Args:
        policy: `agent`, frozen, for the market's lanes.
        own_utok: `[P, E]`, the profits of the policy itself in the test episode.
        steps: training of each learner, in steps of one lane.
        advance: called after each of `TRAINING_PARTS + 1` parts.

    Raises:
        ConfigError: no such algorithm.
    """
    if algorithm not in LEARNERS:
        raise ConfigError(f"learner: {algorithm!r}, allowed are {', '.join(LEARNERS)}")
    who = torch.tensor(prosumers, device=market.grid.device)
    before = policy.snapshot()
    # a policy that is bound to a number of lanes is trained against in these
    lanes = market.num_lanes if policy.bound else TRAINING_LANES
    training = replace(market, seed=seed, num_lanes=lanes)
    options = dict(LEARNERS[algorithm])
    if algorithm == "dqn":
        options["exploration_steps"] = steps // 2
    choices = learner_choices(market.spec.names, who.device)
    learner = make_agent(algorithm, _context(training, choices, who.numel(), seed), **options)
    _teach(training, FrozenPolicy(agent, lanes, market.grid), learner, choices, who, -(-steps // lanes), advance)
    policy.restore(before)
    result = _measure(market, policy, learner, choices, who, episode, own_utok, max_lanes)
    advance()
    return result


def _context(market: Market, choices: Tensor, groups: int, seed: int) -> AgentContext:
    # the grid only says how many choices there are: what they mean depends on the policy's action
    spec = ActionSpec("discrete", choices.shape[0], 0, market.spec.names, choices[..., 1])
    return AgentContext(market.num_lanes, groups, fields_of(market.params), spec, market.grid.device, seed)


def _teach(
    market: Market,
    policy: FrozenPolicy,
    learner: Agent,
    choices: Tensor,
    who: Tensor,
    calls: int,
    advance: Callable[[], None],
) -> None:
    """`calls` steps of all lanes, episode after episode."""
    groups, lanes = who.numel(), market.num_lanes
    each = torch.arange(groups, device=who.device)
    nobody = who[:1]  # whose action in the last group is replaced by itself
    deviators, episode, parts = torch.cat((who, nobody)), 0, 0
    state = market.copies(market.start(episode), groups + 1)
    observation = market.observe(state)
    for call in range(calls):
        action = policy.act(observation)
        seen = market.own(observation, deviators)
        chosen = learner.act(seen[:groups].transpose(0, 1), explore=True)  # [L, G]
        own = market.own(action, deviators)
        instead = own.clone()
        instead[:groups] = apply(choices[chosen.T], own[:groups], hours_of_day(seen[:groups]))
        state, reward = market.step(state, market.deviate(action, deviators, instead))
        following = market.observe(state)
        by_group = reward.unflatten(1, (groups + 1, lanes))  # [P, G + 1, L]
        difference = (by_group[who, each] - by_group[who, groups]).T.float() / UTOK_PER_TOKEN
        ended = torch.full((lanes,), state.phase is Phase.CLOSED, device=who.device)
        learner.learn(
            Transition(
                observation=seen[:groups].transpose(0, 1),
                action=chosen,
                reward=difference,
                next_observation=market.own(following, deviators)[:groups].transpose(0, 1),
                terminated=torch.zeros_like(ended),
                truncated=ended,
            )
        )
        observation = following
        if state.phase is Phase.CLOSED:
            episode += 1
            state = market.copies(market.start(episode), groups + 1)
            observation = market.observe(state)
        while parts < (call + 1) * TRAINING_PARTS // calls:
            parts += 1
            advance()


def _measure(
    market: Market,
    policy: FrozenPolicy,
    learner: Agent,
    choices: Tensor,
    who: Tensor,
    episode: int,
    own_utok: Tensor,
    max_lanes: int,
) -> LearnedDeviations:
    """Play the learners without exploration."""
    changed = torch.zeros((who.numel(), choices.shape[1]), device=who.device)
    shift, taken = torch.zeros_like(changed), torch.zeros_like(changed)

    def change(copies: Tensor, action: Tensor, observation: Tensor) -> Tensor:
        # the algorithm acts for all learners; those whose copies are not played now are shown zeros
        everyone = observation.new_zeros(observation.shape[1], who.numel(), observation.shape[2])
        everyone[:, copies] = observation.transpose(0, 1)
        chosen = learner.act(everyone, explore=False)[:, copies].T
        instead = apply(choices[chosen], action, hours_of_day(observation))
        counted = entries_of_stage(market.spec.names, observation)
        difference = (instead - action) * counted
        changed[copies] += (difference != 0).float().mean(dim=1)
        shift[copies] += difference.mean(dim=1)
        taken[copies] += counted.mean(dim=1)
        return instead

    profit = play_deviations(market, policy, episode, who, change, max_lanes)
    return LearnedDeviations(profit - own_utok[who], changed / taken, shift / taken)

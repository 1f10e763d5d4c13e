"""What the Stable-Baselines3 agents share: building SB3's model, greedy actions, checkpoints, zip files, metrics."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from copy import deepcopy
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from stable_baselines3.common.logger import Logger
from torch import Tensor, nn

from gridmarl.agents.registry_options import from_options
from gridmarl.agents.sb3_options import SB3Options
from gridmarl.agents.sb3_random import OwnGenerators
from gridmarl.agents.sb3_spaces import action_space, observation_space
from gridmarl.agents.sb3_zip import SavedPolicy, read_sb3_zip
from gridmarl.errors import ConfigError, DataError
from gridmarl.protocols import AgentContext, Transition

_ACTIVATIONS = {"tanh": nn.Tanh, "relu": nn.ReLU}
# SB3's names for what our own agents report under another.
_NAMES = {"policy_gradient_loss": "policy_loss", "learning_rate": "lr", "exploration_rate": "epsilon"}


class SB3Agent(ABC):
    """An algorithm of Stable-Baselines3, unmodified, as an `Agent` (see gridmarl.protocols).

    SB3's environment `lane * P + agent` is agent `agent` of lane `lane`: one policy for all agents, each acting on its
    own observation. `act` and `learn` do what SB3's own `learn` does between two steps of its environments, so both
    give the same parameters, bit for bit. SB3 draws from the global generators; here they are the agent's own.

    Raises:
        ConfigError: unknown or refused options, or an action space that the algorithm does not have.
        DataError: the file named by `load` cannot be read, or holds a policy for other spaces.
    """

    name: ClassVar[str]
    learns = True
    algorithm: ClassVar[type[Any]]
    options_class: ClassVar[type[SB3Options]]
    action_kinds: ClassVar[tuple[str, ...]] = ("discrete", "continuous")
    counters: ClassVar[tuple[str, ...]] = ("num_timesteps", "_n_updates", "_current_progress_remaining")

    def __init__(self, context: AgentContext) -> None:
        self.options = options = from_options(self.options_class, context.options, self.name)
        spec = context.action_spec
        if spec.kind not in self.action_kinds:
            raise ConfigError(
                f"{self.name}: action_spec.kind={spec.kind!r}; allowed is {' or '.join(map(repr, self.action_kinds))}"
            )
        self.num_envs, self.num_agents, self.device = context.num_envs, context.num_agents, context.device
        self.num_rows = self.num_envs * self.num_agents
        self._continuous = spec.kind == "continuous"
        saved = None if options.load is None else self._saved_policy(options.load, context)
        self._generators = OwnGenerators(context.seed, context.device)
        self.model = self._build(context, saved)
        self.model.set_logger(Logger(folder=None, output_formats=[]))
        self.model._total_timesteps = options.total_steps * self.num_agents
        if saved is not None:
            self.model.policy.load_state_dict(saved.parameters)

    def _saved_policy(self, path: str, context: AgentContext) -> SavedPolicy:
        for name in ("net_arch", "activation"):
            if name in context.options:
                raise ConfigError(
                    f"{self.name}: {name}={context.options[name]!r} with load={path!r}; allowed is one of them"
                )
        saved = read_sb3_zip(path)
        # PPO and A2C have the same policies.
        if saved.algorithm != {"sb3-a2c": "sb3-ppo"}.get(self.name, self.name):
            raise DataError(f"{path}: policy of {saved.algorithm}; {self.name} was asked for")
        saved.check_fits(context)
        return saved

    def _build(self, context: AgentContext, saved: SavedPolicy | None) -> Any:
        """SB3's model, built from spaces instead of an environment, in the same way as SB3's own `load` does."""
        options = self.options
        policy: dict[str, Any] = {"activation_fn": _ACTIVATIONS[saved.activation if saved else options.activation]}
        if saved is not None:
            policy |= saved.architecture
        elif options.net_arch is not None:
            policy["net_arch"] = options.architecture()
        model = self.algorithm(
            "MlpPolicy",
            None,
            device=self.device,
            policy_kwargs=policy,
            _init_setup_model=False,
            **self._constructor_arguments(context),
        )
        model.observation_space = observation_space(context.observation_fields)
        model.action_space = action_space(context.action_spec)
        model.action_space.seed(context.seed)
        model.n_envs = self.num_rows
        with self._generators.in_use():
            model._setup_model()
        return model

    def _constructor_arguments(self, context: AgentContext) -> dict[str, Any]:
        """Arguments of the algorithm's constructor; may refuse options that do not go with the context."""
        return self.options.constructor_arguments()

    # Acting -----------------------------------------------------------------------------------------------------------

    def act(self, observation: Tensor, *, explore: bool) -> Tensor:
        """Most likely actions for `[E, P, F]` observations, `[E, P]` int64 or `[E, P, A]` float32; samples to explore.

        With `explore`, what SB3 keeps of the step is remembered for `learn`.
        """
        if explore:
            return self._explore(observation)
        rows = observation.flatten(0, 1).cpu().numpy()
        actions, _ = self.model.policy.predict(rows, deterministic=True)
        return self._as_actions(actions, observation.shape[0])

    @abstractmethod
    def _explore(self, observation: Tensor) -> Tensor:
        """Actions as SB3 draws them while it trains."""

    def _as_actions(self, actions: NDArray[Any], lanes: int) -> Tensor:
        kind = torch.float32 if self._continuous else torch.int64
        shape = (lanes, self.num_agents, *actions.shape[1:])
        return torch.as_tensor(actions.reshape(shape), dtype=kind, device=self.device)

    # Learning ---------------------------------------------------------------------------------------------------------

    @abstractmethod
    def learn(self, transition: Transition) -> dict[str, float]:
        """Add one step of all lanes to SB3's buffer, and train when SB3 would."""

    def _rows(self, values: Tensor) -> NDArray[Any]:
        """`[E, P, ...]` as SB3's rows `[E * P, ...]`; may share memory."""
        rows: NDArray[Any] = values.reshape(self.num_rows, *values.shape[2:]).cpu().numpy()
        return rows

    def _each_agent(self, lanes: Tensor) -> NDArray[np.bool_]:
        """`[E]` bool as one per row."""
        return np.repeat(lanes.cpu().numpy(), self.num_agents)

    def _count_step(self) -> None:
        self.model.num_timesteps += self.num_rows

    def _update_progress(self) -> None:
        self.model._update_current_progress_remaining(self.model.num_timesteps, self.model._total_timesteps)

    def _take_metrics(self) -> dict[str, float]:
        """What SB3 logged since the last call; where our own agents report the same, under their names."""
        logged = self.model.logger.name_to_value
        metrics: dict[str, float] = {}
        for key, value in logged.items():
            name = key.rpartition("/")[2]
            if name == "entropy_loss":  # the entropy's negative
                metrics["entropy"] = -float(value)
            else:
                metrics[_NAMES.get(name, name)] = float(value)
        # Undefined where the returns do not vary; our own agents report 0 there.
        if math.isnan(metrics.get("explained_variance", 0.0)):
            metrics["explained_variance"] = 0.0
        self.model.logger.dump()  # to nowhere: empties it
        return metrics

    # Checkpoints ------------------------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """Networks, optimisers, buffer, counters, generators: plain tensors and values for an exact resume."""
        _, variables = self.model._get_torch_save_params()
        return {
            "parameters": deepcopy(self.model.get_parameters()),
            "variables": {name: getattr(self.model, name).detach().clone() for name in variables},
            "counters": {name: getattr(self.model, name) for name in self._counters()},
            "buffer": self._buffer_state(),
            "generators": self._generators.state_dict(),
            "action_generator": deepcopy(self.model.action_space.np_random.bit_generator.state),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from `state_dict()`; the agent must have been built with the same context.

        The length of the run that schedules assume is the saved one.

        Raises:
            ConfigError: the saved buffer does not fit this agent's.
        """
        self._load_buffer(state["buffer"])
        self.model.set_parameters(deepcopy(state["parameters"]), exact_match=True)
        for name, value in state["variables"].items():
            getattr(self.model, name).data.copy_(value)
        for name in self._counters():
            setattr(self.model, name, state["counters"][name])
        self._generators.load_state_dict(state["generators"])
        self.model.action_space.np_random.bit_generator.state = deepcopy(state["action_generator"])

    def _counters(self) -> tuple[str, ...]:
        return (*self.counters, "_total_timesteps")

    @abstractmethod
    def _buffer_state(self) -> dict[str, Any]:
        """What SB3's buffer holds, and what else is under way between two steps."""

    @abstractmethod
    def _load_buffer(self, state: dict[str, Any]) -> None:
        """See `load_state_dict`."""

    def save_zip(self, path: Path | str) -> None:
        """Write a zip file as SB3 does: `stable_baselines3.PPO.load(path)` (DQN, ...) opens it and acts alike.

        A path without suffix gets `.zip`. It holds no buffer; to continue training, use the run's checkpoint.
        """
        self.model.save(path, exclude=["_last_obs", "_last_original_obs", "_last_episode_starts"])


def copied(array: NDArray[Any], size: int) -> Tensor:
    """The first `size` entries of a buffer's array, as a tensor of their own."""
    return torch.from_numpy(array[:size].copy())


def fill_arrays(name: str, buffer: Any, saved: dict[str, Tensor]) -> None:
    """Fill the first entries of a buffer's arrays.

    Raises:
        ConfigError: shapes differ, or more is saved than there is room for.
    """
    for key, values in saved.items():
        array = getattr(buffer, key)
        if tuple(values.shape[1:]) != array.shape[1:] or values.shape[0] > array.shape[0]:
            raise ConfigError(
                f"{name}: saved buffer: {key} has shape {tuple(values.shape)}; allowed is up to {array.shape}"
            )
    for key, values in saved.items():
        getattr(buffer, key)[: values.shape[0]] = values.cpu().numpy()

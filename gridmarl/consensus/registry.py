"""Consensus mechanisms by name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from gridmarl.consensus.authority import ProofOfAuthority
from gridmarl.consensus.network import Network
from gridmarl.consensus.pbft import Pbft
from gridmarl.consensus.stake import ProofOfStake
from gridmarl.consensus.types import Mechanism
from gridmarl.consensus.work import ProofOfWork
from gridmarl.errors import ConfigError

DEFAULT = "proof_of_authority"

_MECHANISMS: dict[str, Callable[..., Mechanism]] = {
    "proof_of_authority": ProofOfAuthority,
    "proof_of_stake": ProofOfStake,
    "proof_of_work": ProofOfWork,
    "pbft": Pbft,
}


def consensus_names() -> tuple[str, ...]:
    """Names of all mechanisms, the default first."""
    return tuple(_MECHANISMS)


def make_consensus(name: str = DEFAULT, network: Network | None = None, **options: Any) -> Mechanism:
    """A mechanism by name, on a network (default: `Network()`), with its own options.

    Options: `seed`, `coin_age_cap_blocks` and `confirmations` of proof of stake, `difficulty_bits` and
    `confirmations` of proof of work; see the classes.

    Raises:
        ConfigError: an unknown name or option, or a value out of range.
    """
    if name not in _MECHANISMS:
        raise ConfigError(f"consensus: {name!r}, allowed are {', '.join(_MECHANISMS)}")
    try:
        return _MECHANISMS[name](network or Network(), **options)
    except TypeError as error:
        raise ConfigError(f"options of {name}: {error}") from error


def blocks_to_finality(name: str, *, validators: int, confirmations: int) -> int:
    """Blocks that must follow until a block is final, where all validators are honest (docs/finality.md).

    Args:
        name: of the mechanism.
        validators: how many may seal; under proof of authority a majority has to build on a block.
        confirmations: of proof of stake and of work.

    Raises:
        ConfigError: an unknown name.
    """
    blocks = {
        "proof_of_authority": validators // 2,
        "proof_of_stake": confirmations,
        "proof_of_work": confirmations,
        "pbft": 0,
    }
    if name not in blocks:
        raise ConfigError(f"consensus: {name!r}, allowed are {', '.join(_MECHANISMS)}")
    return blocks[name]

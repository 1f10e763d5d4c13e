"""Consensus: who seals a block, when it is final, and what that costs. One mechanism per module, one interface."""

from gridmarl.consensus.authority import ProofOfAuthority
from gridmarl.consensus.incentives import candidates_of
from gridmarl.consensus.network import Network
from gridmarl.consensus.pbft import Pbft
from gridmarl.consensus.registry import DEFAULT, consensus_names, make_consensus
from gridmarl.consensus.stake import ProofOfStake
from gridmarl.consensus.types import Candidate, Mechanism, Outcome, Seal
from gridmarl.consensus.work import ProofOfWork

__all__ = [
    "DEFAULT",
    "Candidate",
    "Mechanism",
    "Network",
    "Outcome",
    "Pbft",
    "ProofOfAuthority",
    "ProofOfStake",
    "ProofOfWork",
    "Seal",
    "candidates_of",
    "consensus_names",
    "make_consensus",
]

"""The ledger: records -> hash -> block -> chain -> file -> proof, and its verification by independent replay."""

from gridmarl.ledger.batch import BatchChain
from gridmarl.ledger.batch_proof import BatchProof, BatchProver
from gridmarl.ledger.block import Block, Header, SealedBlock
from gridmarl.ledger.chain import LaneChains, seal_hour
from gridmarl.ledger.chain_proof import ChainProof, check_proof, prove_consistency, prove_in_chain
from gridmarl.ledger.file import LedgerWriter, write_ledger
from gridmarl.ledger.genesis import Rules
from gridmarl.ledger.half_hour import HalfHourRecord
from gridmarl.ledger.hour import HourRecord
from gridmarl.ledger.keys import KeyRing
from gridmarl.ledger.location import LocatedError, Location
from gridmarl.ledger.proof import InclusionProof, prove
from gridmarl.ledger.quota_genesis import QuotaRules
from gridmarl.ledger.reader import LedgerReader
from gridmarl.ledger.store import LedgerStore
from gridmarl.ledger.verify import Verdict, verify, verify_bytes

__all__ = [
    "BatchChain",
    "BatchProof",
    "BatchProver",
    "Block",
    "ChainProof",
    "HalfHourRecord",
    "Header",
    "HourRecord",
    "InclusionProof",
    "KeyRing",
    "LaneChains",
    "LedgerReader",
    "LedgerStore",
    "LedgerWriter",
    "LocatedError",
    "Location",
    "QuotaRules",
    "Rules",
    "SealedBlock",
    "Verdict",
    "check_proof",
    "prove",
    "prove_consistency",
    "prove_in_chain",
    "seal_hour",
    "verify",
    "verify_bytes",
    "write_ledger",
]

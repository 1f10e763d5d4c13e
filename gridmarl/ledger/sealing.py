"""Sealing the blocks of one chain under its consensus: who seals, what the header says of it, and the signatures.

| consensus          | sealer                                                    | header names   | signed by      |
|--------------------|-----------------------------------------------------------|----------------|----------------|
| proof of authority | validators in turn: height mod validators                 | sealer         | the sealer     |
| proof of stake     | drawn, weighted by reductions earned in the blocks before | sealer         | the sealer     |
| proof of work      | who tries the right nonce: nonce mod validators           | sealer, nonce  | the sealer     |
| PBFT               | primary of view 0: height mod validators                  | sealer         | all validators |

All validators are honest and sit in the process that writes the chain; what faulty ones do to delay and finality is
simulated in `gridmarl.consensus`. The verification (`gridmarl.ledger.seal_check`) takes every rule of the table again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gridmarl.errors import LedgerError
from gridmarl.ledger.block import CONSENSUS_CODES, Header
from gridmarl.ledger.election import Election
from gridmarl.ledger.hashing import header_hash
from gridmarl.ledger.nonce import search

if TYPE_CHECKING:
    from gridmarl.ledger.chain_rules import ChainRules
    from gridmarl.ledger.keys import KeyRing


class Sealer:
    """Seals the blocks of one chain, in order.

    Args:
        rules: of the chain.
        keys: private keys of the validators; None for an unsigned chain.

    Raises:
        LedgerError: the rules name other public keys, or none, or some without keys.
    """

    def __init__(self, rules: ChainRules, keys: KeyRing | None = None) -> None:
        if keys is None and rules.sealers:
            raise LedgerError(f"keys: none; those of the {len(rules.sealers)} sealers that the rules name are allowed")
        if keys is not None and keys.public_keys != rules.sealers:
            raise LedgerError("keys: their public keys are not the sealers that the rules name")
        self._rules, self._keys = rules, keys
        self._election = Election(rules)

    def seal(self, header: bytes, transactions: bytes | memoryview) -> tuple[bytes, bytes]:
        """Header with its consensus fields, and the signatures, of the next block.

        Args:
            header: 256 bytes; consensus, sealer, difficulty and nonce are filled in here.
            transactions: the block's section, from which stakes grow.

        Raises:
            LedgerError: no nonce solves the header.
        """
        rules, accounts = self._rules, self._rules.sealer_accounts
        draft = Header.unpack(header)._replace(consensus=CONSENSUS_CODES[rules.consensus], difficulty=0, nonce=0)
        if rules.consensus == "proof_of_work":
            solved = search(draft.pack(), rules.difficulty_bits, miners=accounts)
            if solved is None:
                raise LedgerError(f"block {draft.height}: no nonce solves the header")
            sealed, validator = solved, accounts.index(Header.unpack(solved).sealer)
        else:
            validator = self._election.validator(draft.height, draft.parent)
            sealed = draft._replace(sealer=accounts[validator]).pack()
        self._election.count(transactions)
        return sealed, self._signatures(validator, header_hash(sealed))

    def _signatures(self, validator: int, identity: bytes) -> bytes:
        if self._keys is None:
            return b""
        signers = range(self._rules.validators) if self._rules.consensus == "pbft" else (validator,)
        return b"".join(self._keys.sign(each, identity) for each in signers)

    def state_dict(self) -> dict[str, Any]:
        """Stakes so far: what an exact resume needs."""
        return {"stakes_utok": list(self._election.stakes_utok)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from `state_dict()`."""
        self._election.stakes_utok = [int(stake) for stake in state["stakes_utok"]]

"""Verification of seals: the sealer as elected, difficulty and work, signatures and votes; each located.

The work and the signatures of a block are checked after everything else of it: all other fields of a header follow from
the rules and the sections, so that what is then wrong is the nonce or a signature.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gridmarl.ledger.block import SIGNATURE_BYTES, Header
from gridmarl.ledger.election import Election, in_turn, quorum
from gridmarl.ledger.file import TRAILER_MAGIC
from gridmarl.ledger.keys import Verifier
from gridmarl.ledger.locate import authentic
from gridmarl.ledger.location import HEADER, SIGNATURES, LocatedError, Location, mismatch
from gridmarl.ledger.nonce import leading_zero_bits

if TYPE_CHECKING:
    from gridmarl.ledger.block import Block
    from gridmarl.ledger.chain_rules import ChainRules
    from gridmarl.ledger.reader import LedgerReader

_ABSENT = bytes(SIGNATURE_BYTES)


class SealCheck:
    """Checks the seals of one chain, block after block.

    Attributes:
        signers: validators that have signed a block so far.
    """

    def __init__(self, rules: ChainRules) -> None:
        self._rules = rules
        self._election = Election(rules)
        self._verifier = Verifier(rules.sealers)
        self._work = rules.consensus == "proof_of_work"
        self.signers: set[int] = set()

    def check_sealer(self, height: int, header: Header, parent: bytes) -> None:
        """Whether a header names the sealer elected on its parent; of work, whose nonce it is.

        Raises:
            LocatedError: another sealer.
        """
        if self._work:
            validator, how = in_turn(header.nonce, self._rules.validators), "not who tries this nonce"
        else:
            validator, how = self._election.validator(height, parent), "not the sealer elected"
        expected = self._rules.sealer_accounts[validator]
        if header.sealer != expected:
            raise mismatch(HEADER, how, block=height, field="sealer", expected=expected, seen=header.sealer)

    def check_seal(self, reader: LedgerReader, height: int, block: Block, identity: bytes) -> None:
        """Work and signatures of a block of which all else is right; its reductions then count as stake.

        Raises:
            LocatedError: the hash does not solve the difficulty, a signature is not valid, or votes are too few.
        """
        if self._work:
            self._check_work(height, identity)
        wrong = self._check_votes(height, block, identity) if self._rules.consensus == "pbft" else None
        if self._rules.sealers and self._rules.consensus != "pbft":
            wrong = self._check_signature(height, block, identity)
        if self._work and (wrong is not None or not self._rules.sealers):
            _check_nonce(reader, height, identity)
        if wrong is not None:
            raise wrong
        self._election.count(block.transactions)

    def _check_work(self, height: int, identity: bytes) -> None:
        bits = leading_zero_bits(identity)
        if bits < self._rules.difficulty_bits:
            reason, expected = "does not solve the header", f"{self._rules.difficulty_bits} zero bits or more"
            raise mismatch(HEADER, reason, block=height, field="nonce", expected=expected, seen=f"{bits} zero bits")

    def _check_signature(self, height: int, block: Block, identity: bytes) -> LocatedError | None:
        validator = self._rules.sealer_accounts.index(block.parsed_header().sealer)
        if not self._verifier.valid(validator, identity, block.signatures):
            return self._invalid(height, 0, validator, block.signatures)
        self.signers.add(validator)
        return None

    def _check_votes(self, height: int, block: Block, identity: bytes) -> LocatedError | None:
        if not self._rules.sealers:
            return None
        voters = set()
        for validator in range(self._rules.validators):
            vote = block.signatures[validator * SIGNATURE_BYTES :][:SIGNATURE_BYTES]
            if vote == _ABSENT:
                continue
            if not self._verifier.valid(validator, identity, vote):
                return self._invalid(height, validator, validator, vote)
            voters.add(validator)
        least = quorum(self._rules.validators)
        if len(voters) < least:
            reason = f"too few of {self._rules.validators} votes"
            return mismatch(
                SIGNATURES, reason, block=height, field="votes", expected=f">= {least}", seen=str(len(voters))
            )
        self.signers |= voters
        return None

    def _invalid(self, height: int, slot: int, validator: int, signature: bytes) -> LocatedError:
        return LocatedError(
            Location(
                SIGNATURES,
                "does not sign this header",
                block=height,
                record=slot,
                record_name=f"validator {validator}",
                field="signature",
                expected=f"one by the key {self._rules.sealers[validator]}",
                seen=signature.hex(),
            )
        )


def _check_nonce(reader: LedgerReader, height: int, identity: bytes) -> None:
    """Whether the next block or the trailer names another hash: of a header of work, only the nonce can then be wrong.

    Where they do not vouch for what they name, or where a valid signature vouches for the header, they are the ones to
    be found wrong.

    Raises:
        LocatedError: at the nonce.
    """
    try:
        named = reader.trailer().head
    except LocatedError:
        return
    if height + 1 < reader.block_count:
        after = reader.header(height + 1)
        if after.startswith(TRAILER_MAGIC) or not authentic(reader, height + 1):
            return
        named = Header.unpack(after).parent
    if named != identity:
        reason = "the hash of the header is not the one named after it"
        raise mismatch(HEADER, reason, block=height, field="nonce", expected=named, seen=identity)

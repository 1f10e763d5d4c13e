"""What a contract refuses, one class per reason; each message names state, call, caller and what is allowed."""

from __future__ import annotations

from gridmarl.errors import LedgerError


class ContractError(LedgerError):
    """A contract refuses a call; nothing has changed."""


class IllegalTransitionError(ContractError):
    """The call does not exist in the contract's state."""


class AlreadyDoneError(IllegalTransitionError):
    """The call has been made, and cannot be made again."""


class WrongCallerError(ContractError):
    """The call belongs to somebody else."""


class TooEarlyError(ContractError):
    """The call's time has not come."""


class TooLateError(ContractError):
    """The call's deadline has passed."""


class DepositError(ContractError):
    """A deposit is smaller than what the contract asks for."""

"""Exceptions that name the field, the value seen and what is allowed. All derive from GridmarlError (exit code 2)."""


class GridmarlError(Exception):
    """Base of every error a user's input can cause; the command line prints it in one line and exits with 2."""


class ConfigError(GridmarlError, ValueError):
    """A configuration field has a value that is not allowed, or an unknown key was given."""


class DataError(GridmarlError, ValueError):
    """A data file is malformed; the message names the file and the first culprit (line, column or interval)."""


class ActionError(GridmarlError, ValueError):
    """An action is NaN, has the wrong shape or lies outside the action space."""


class OverdraftError(GridmarlError):
    """A payment would take an account below its credit limit."""


class LedgerError(GridmarlError):
    """A ledger file or block cannot be read or does not verify; the message names block and section."""


class ConsensusError(GridmarlError):
    """Validators finalise nothing more, or different blocks; the message names the height and how many are faulty."""


class MissingExtraError(GridmarlError, ImportError):
    """An optional dependency is not installed; the message is the one line that says what to install."""

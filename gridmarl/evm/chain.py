"""A chain within the process: py-evm behind eth-tester, spoken to through web3; a block per transaction."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from gridmarl.contracts.errors import ContractError
from gridmarl.errors import MissingExtraError
from gridmarl.evm.build import NEEDS_EXTRA, Artifact

GAS_LIMIT = 10_000_000  # of a transaction; unused gas costs nothing
GAS_PRICE_WEI = 10**10
GENESIS_TIME = 1_768_498_200  # 2026-01-15 17:30 UTC: with a clock of its own, a run's gas is the same every time


class GasUse(NamedTuple):
    """What one transaction used, the 21,000 of any transaction and its data included."""

    function: str
    gas: int


class Chain:
    """Accounts, contracts and a clock; `gas` lists the transactions in order.

    A chain is for trying contracts out: it seals a block per transaction, for nobody but this process, and forgets
    everything with it. Its rules are those of Ethereum's Prague fork.

    Raises:
        MissingExtraError: the extra `evm` is not installed.
    """

    def __init__(self, num_accounts: int, genesis_time: int = GENESIS_TIME) -> None:
        try:
            from eth_tester import EthereumTester, PyEVMBackend
            from web3 import EthereumTesterProvider, Web3
        except ImportError as error:
            raise MissingExtraError(NEEDS_EXTRA) from error
        backend = PyEVMBackend(
            genesis_parameters=PyEVMBackend.generate_genesis_params(overrides={"timestamp": genesis_time}),
            genesis_state=PyEVMBackend.generate_genesis_state(num_accounts=num_accounts),
        )
        self._tester = EthereumTester(backend)
        self._web3 = Web3(EthereumTesterProvider(self._tester))
        self.accounts: list[str] = list(self._web3.eth.accounts)
        self.gas: list[GasUse] = []

    @property
    def now(self) -> int:
        """Timestamp of the block that the next transaction will be in."""
        return int(self._web3.eth.get_block("pending")["timestamp"])

    def travel(self, timestamp: int) -> None:
        """Let the next transaction be in a block of that time, later than now."""
        self._tester.time_travel(timestamp)

    def deploy(self, artifact: Artifact, sender: str, *arguments: Any) -> Any:
        """A web3 contract at the address of its own. Raises ContractError, with the reason, where it refuses."""
        blank = self._web3.eth.contract(abi=artifact.abi, bytecode=artifact.bytecode)
        name, bound = f"{artifact.name} (deployment)", blank.constructor(*arguments)
        trial = {"from": sender, "gas": GAS_LIMIT, "data": bound.data_in_transaction}
        _refusal(name, lambda: self._web3.eth.call(trial, "pending"))
        receipt = self._transact(name, bound, sender)
        return self.at(artifact, receipt["contractAddress"])

    def at(self, artifact: Artifact, address: str) -> Any:
        """A web3 contract that has been deployed."""
        return self._web3.eth.contract(address=address, abi=artifact.abi)

    def send(self, contract: Any, function: str, sender: str, *arguments: Any) -> Any:
        """A transaction that calls the contract; its receipt.

        It is tried in the pending block first, as wallets do, so that a refusal has its reason and leaves no block.

        Raises:
            ContractError: refused; the message names function and reason.
        """
        bound = _bound(contract, function, arguments)
        self._try(function, bound, sender)
        return self._transact(function, bound, sender)

    def view(self, contract: Any, function: str, *arguments: Any) -> Any:
        """What a function returns, without a transaction. Raises ContractError, with the reason, where it refuses."""
        return self._try(function, _bound(contract, function, arguments), self.accounts[0])

    def events(self, contract: Any, name: str, receipt: Any) -> list[dict[str, Any]]:
        """Arguments of the events of that name in a transaction."""
        from web3.logs import DISCARD

        found = contract.events[name]().process_receipt(receipt, errors=DISCARD)
        return [dict(event["args"]) for event in found]

    def _try(self, function: str, bound: Any, sender: str) -> Any:
        terms = {"from": sender, "gas": GAS_LIMIT}
        return _refusal(function, lambda: bound.call(terms, block_identifier="pending"))

    def _transact(self, function: str, bound: Any, sender: str) -> Any:
        terms = {"from": sender, "gas": GAS_LIMIT, "gasPrice": GAS_PRICE_WEI}
        receipt = self._web3.eth.get_transaction_receipt(bound.transact(terms))
        if receipt["status"] != 1:
            raise ContractError(f"contract on the chain: {function}: reverted")
        self.gas.append(GasUse(function, int(receipt["gasUsed"])))
        return receipt


def _bound(contract: Any, function: str, arguments: tuple[Any, ...]) -> Any:
    """The call with its arguments; ContractError if they have other types than the contract's: it has no negative
    prices, for one.
    """
    from web3.exceptions import Web3Exception

    try:
        return contract.functions[function](*arguments)
    except Web3Exception as error:
        raise ContractError(f"contract on the chain: {function}: arguments {arguments} of other types") from error


def _refusal(function: str, attempt: Callable[[], Any]) -> Any:
    """What the attempt returns; ContractError with what the contract gave as its reason. Overflows and the lock against
    re-entry give none.
    """
    from eth_tester.exceptions import TransactionFailed

    try:
        return attempt()
    except TransactionFailed as error:
        text = str(error).removeprefix("execution reverted: ")
        reason = text if text != "b''" else "reverted without a reason"
        raise ContractError(f"contract on the chain: {function}: {reason}") from error

"""The charging-quota market on a chain: token and market deployed, everybody's balance minted and approved."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from gridmarl.contracts.quota_sums import QuotaTerms
from gridmarl.errors import ConfigError
from gridmarl.evm.build import Artifact, build
from gridmarl.evm.chain import Chain

MAX_STATIONS = 16
UNLIMITED = 2**256 - 1
SPARE_ACCOUNTS = 1  # of nobody in the market


def check_terms(terms: QuotaTerms) -> None:
    """ConfigError: terms that the contract on the chain cannot keep: another auction, more stations than its loops."""
    if terms.auction != "pairwise":
        raise ConfigError(f"auction: {terms.auction!r}, allowed on a chain is 'pairwise'")
    if terms.num_stations > MAX_STATIONS:
        raise ConfigError(f"num_stations: {terms.num_stations}, allowed on a chain are 1 .. {MAX_STATIONS}")


class ChainMarket:
    """A market with accounts numbered as in `QuotaContract`: stations `0..N-1`, the DSO `N`, somebody else `N+1`.

    The DSO deploys both contracts and mints; every station approves the market without limit. Calls take the caller's
    number; amounts are integers in Wh, µtok and µtok/Wh; times are those of `chain`.

    Args:
        terms: what is fixed; its auction is "pairwise", its stations at most `MAX_STATIONS`.
        balances_utok: of the stations and the DSO, N+1 integers >= 0.
        artifact: another market contract to deploy, with the same functions.
        token: another token to deploy, with the same functions.

    Raises:
        ConfigError: terms or balances that do not fit.
        MissingExtraError: the extra `evm` is not installed.
    """

    def __init__(
        self,
        terms: QuotaTerms,
        balances_utok: Sequence[int],
        *,
        artifact: Artifact | None = None,
        token: Artifact | None = None,
    ) -> None:
        check_terms(terms)
        if len(balances_utok) != terms.num_stations + 1 or min(balances_utok) < 0:
            raise ConfigError(
                f"balances_utok: {list(balances_utok)}, allowed are {terms.num_stations + 1} integers from 0"
            )
        self.terms = terms
        self.dso = terms.num_stations
        token_artifact, market_artifact = token or build("token"), artifact or build("quota_market")
        self.chain = Chain(terms.num_stations + 1 + SPARE_ACCOUNTS)
        self.addresses = self.chain.accounts
        operator = self.addresses[self.dso]
        self.token = self.chain.deploy(token_artifact, operator)
        self.market = self.chain.deploy(
            market_artifact,
            operator,
            self.token.address,
            self.addresses[: self.dso],
            terms.deposit_rate_utok_per_wh,
            terms.penalty_rate_utok_per_wh,
            terms.forfeit_permille,
            terms.floor_utok_per_wh,
            terms.cap_utok_per_wh,
        )
        for account, balance in enumerate(balances_utok):
            if balance:
                self.chain.send(self.token, "mint", operator, self.addresses[account], balance)
        for station in range(self.dso):
            self.chain.send(self.token, "approve", self.addresses[station], self.market.address, UNLIMITED)

    def call(self, function: str, caller: int, *arguments: Any) -> Any:
        """A transaction by account `caller`; its receipt. Functions and arguments: contracts/quota_market.vy.

        Raises:
            ContractError: refused; the message names function and reason, and nothing has changed.
        """
        return self.chain.send(self.market, function, self.addresses[caller], *arguments)

    def view(self, function: str, *arguments: Any) -> Any:
        """What a function of the market returns, without a transaction."""
        return self.chain.view(self.market, function, *arguments)

    @property
    def quotas_wh(self) -> list[int]:
        """Of the stations; after the auction the final ones."""
        return list(self.view("quotas"))

    @property
    def balances_utok(self) -> list[int]:
        """Of the stations and the DSO: what they hold of the token."""
        return [int(self.chain.view(self.token, "balanceOf", address)) for address in self.addresses[: self.dso + 1]]

    @property
    def escrow_utok(self) -> int:
        """What the market holds of the token."""
        return int(self.chain.view(self.token, "balanceOf", self.market.address))

"""A hostile token that is a station itself: no call gets in while another runs, and none is believed to have paid."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from gridmarl.contracts.errors import ContractError
from gridmarl.evm.build import CONTRACTS, Artifact, build
from gridmarl.evm.chain import Chain

TOKEN, STATION = 1, 0  # numbers of the stations; the token's contract is one of them
DEPOSIT = 500
TESTED = Path(__file__).with_name("contracts")


class Attack:
    """A market of a plain station and the token, in DECLARING."""

    def __init__(self, market: Artifact) -> None:
        self.chain = Chain(3)
        self.operator, self.station, _ = self.chain.accounts
        self.token = self.chain.deploy(build("hostile_token", TESTED), self.operator)
        members = [self.station, self.token.address]
        terms = (100, 500, 0, 0, 1_000)
        self.market = self.chain.deploy(market, self.operator, self.token.address, members, *terms)
        self.begin = self.chain.now
        self.operate("initialize", 0, 100, 7, [self.begin + 100, self.begin + 200, self.begin + 300])

    def operate(self, function: str, *arguments: Any) -> None:
        self.chain.send(self.market, function, self.operator, *arguments)

    def encoded(self, function: str, *arguments: Any) -> bytes:
        return bytes.fromhex(self.market.encode_abi(function, list(arguments)).removeprefix("0x"))

    def arm(self, function: str, *arguments: Any) -> None:
        call = self.encoded(function, *arguments)
        self.chain.send(self.token, "arm", self.operator, self.market.address, call)

    def act(self, function: str, *arguments: Any) -> None:
        """The token as the station that it is."""
        call = self.encoded(function, *arguments)
        self.chain.send(self.token, "act", self.operator, self.market.address, call)

    def of_token(self, name: str) -> Any:
        return self.chain.view(self.token, name)


@pytest.fixture(scope="module")
def unlocked(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    """The same market without its lock, to show that the lock is what these tests see."""
    folder = tmp_path_factory.mktemp("unlocked")
    text = (CONTRACTS / "quota_market.vy").read_text(encoding="utf-8")
    assert text.count("@nonreentrant\n") == 8
    (folder / "quota_market.vy").write_text(text.replace("@nonreentrant\n", ""), encoding="utf-8")
    return build("quota_market", folder)


def test_every_call_that_changes_anything_is_locked() -> None:
    functions = [each for each in build("quota_market").abi if each["type"] == "function"]
    changing = {each["name"] for each in functions if each["stateMutability"] == "nonpayable"}
    text = (CONTRACTS / "quota_market.vy").read_text(encoding="utf-8")
    locked = {part.split("def ")[1].split("(")[0] for part in text.split("@external\n@nonreentrant\n")[1:]}
    assert locked == changing
    assert not [each for each in functions if each["stateMutability"] == "payable"]


def test_declaring_within_a_declaration_is_refused() -> None:
    attack = Attack(build("quota_market"))
    attack.arm("demand_submit", 5, DEPOSIT)
    attack.chain.send(attack.market, "demand_submit", attack.station, 5, DEPOSIT)
    assert attack.of_token("attempts") == 1
    assert attack.of_token("succeeded") is False
    assert attack.of_token("response") == b""  # the lock gives no reason
    assert attack.chain.view(attack.market, "declared_of", STATION) == 5
    assert attack.chain.view(attack.market, "declared_of", TOKEN) == 0


def test_without_the_lock_it_would_get_in(unlocked: Artifact) -> None:
    attack = Attack(unlocked)
    attack.arm("demand_submit", 5, DEPOSIT)
    attack.chain.send(attack.market, "demand_submit", attack.station, 5, DEPOSIT)
    assert attack.of_token("succeeded") is True
    assert attack.chain.view(attack.market, "declared_of", TOKEN) == 5


def withdraw_within_withdrawal(attack: Attack) -> int:
    """What the token as a station gets out, which declared for a deposit of 500 and used nothing."""
    attack.act("demand_submit", 5, DEPOSIT)
    attack.chain.travel(attack.begin + 100)
    attack.operate("pre_allocate")
    attack.chain.travel(attack.begin + 300)
    for station in (STATION, TOKEN):
        attack.operate("payment", station, 0)
    before = int(attack.of_token("moved"))
    attack.arm("withdraw")
    attack.act("withdraw")
    assert attack.of_token("attempts") == 1
    assert attack.of_token("succeeded") is False
    return int(attack.of_token("moved")) - before


def test_withdrawing_within_a_withdrawal_is_refused() -> None:
    attack = Attack(build("quota_market"))
    assert withdraw_within_withdrawal(attack) == DEPOSIT
    assert attack.of_token("response") == b""


def test_even_without_the_lock_a_deposit_comes_back_once(unlocked: Artifact) -> None:
    """The second line: what a call changes stands before it calls the token."""
    attack = Attack(unlocked)
    assert withdraw_within_withdrawal(attack) == DEPOSIT
    assert b"done already" in attack.of_token("response")


def test_a_token_that_does_not_pay_is_not_believed() -> None:
    attack = Attack(build("quota_market"))
    attack.chain.send(attack.token, "refuse", attack.operator)
    with pytest.raises(ContractError, match=r"demand_submit: transfer refused$"):
        attack.chain.send(attack.market, "demand_submit", attack.station, 5, DEPOSIT)
    assert attack.chain.view(attack.market, "declared_of", STATION) == 0

# pragma version ~=0.4.3
"""
@title Token of the charging-quota market
@license MIT
@notice ERC-20. One unit is 1 utok, 10^6 units are 1 token. Who deploys it may mint, as the operator of a consortium
        hands out tokens against money.
"""

from ethereum.ercs import IERC20

implements: IERC20

event Transfer:
    sender: indexed(address)
    receiver: indexed(address)
    value: uint256

event Approval:
    owner: indexed(address)
    spender: indexed(address)
    value: uint256

name: public(constant(String[20])) = "gridmarl token"
symbol: public(constant(String[8])) = "GRID"
decimals: public(constant(uint8)) = 6

MINTER: public(immutable(address))
balanceOf: public(HashMap[address, uint256])
allowance: public(HashMap[address, HashMap[address, uint256]])
totalSupply: public(uint256)


@deploy
def __init__():
    MINTER = msg.sender


@external
def mint(receiver: address, amount: uint256):
    """
    @notice New units for `receiver`.
    """
    assert msg.sender == MINTER, "not the minter"
    assert receiver != empty(address), "no receiver"
    self.totalSupply += amount
    self.balanceOf[receiver] += amount
    log Transfer(sender=empty(address), receiver=receiver, value=amount)


@external
def transfer(receiver: address, amount: uint256) -> bool:
    """
    @notice The caller's units to `receiver`.
    """
    self._move(msg.sender, receiver, amount)
    return True


@external
def approve(spender: address, amount: uint256) -> bool:
    """
    @notice Let `spender` move up to `amount` of the caller's units; max_value(uint256) is without limit.
    """
    self.allowance[msg.sender][spender] = amount
    log Approval(owner=msg.sender, spender=spender, value=amount)
    return True


@external
def transferFrom(owner: address, receiver: address, amount: uint256) -> bool:
    """
    @notice Units of `owner`, who has approved the caller, to `receiver`.
    """
    allowed: uint256 = self.allowance[owner][msg.sender]
    assert allowed >= amount, "allowance too small"
    if allowed != max_value(uint256):
        self.allowance[owner][msg.sender] = allowed - amount
    self._move(owner, receiver, amount)
    return True


@internal
def _move(owner: address, receiver: address, amount: uint256):
    assert receiver != empty(address), "no receiver"
    available: uint256 = self.balanceOf[owner]
    assert available >= amount, "balance too small"
    self.balanceOf[owner] = available - amount
    self.balanceOf[receiver] += amount
    log Transfer(sender=owner, receiver=receiver, value=amount)

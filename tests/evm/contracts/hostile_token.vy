# pragma version ~=0.4.3
"""
@title A token that calls back whoever moves it, and a station of its own
@notice Moves nothing. `arm` says what it calls in the next transfer; `act` calls it at once. `answer` is what the
        transfer returns.
"""

target: public(address)
attack: Bytes[132]
answer: public(bool)
attempts: public(uint256)
succeeded: public(bool)
response: public(Bytes[256])
moved: public(uint256)


@deploy
def __init__():
    self.answer = True


@external
def arm(target: address, attack: Bytes[132]):
    self.target = target
    self.attack = attack


@external
def refuse():
    self.answer = False


@external
def act(target: address, call: Bytes[132]):
    raw_call(target, call)


@external
def transfer(receiver: address, amount: uint256) -> bool:
    return self._move(amount)


@external
def transferFrom(owner: address, receiver: address, amount: uint256) -> bool:
    return self._move(amount)


@internal
def _move(amount: uint256) -> bool:
    self.moved += amount
    if len(self.attack) > 0:
        attack: Bytes[132] = self.attack
        self.attack = b""
        self.attempts += 1
        self.succeeded, self.response = raw_call(
            self.target, attack, max_outsize=256, revert_on_failure=False
        )
    return self.answer

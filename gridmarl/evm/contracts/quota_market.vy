# pragma version ~=0.4.3
"""
@title Charging-quota market of one transformer
@license MIT
@notice One round per period: declare with a deposit, allocate, trade, charge, pay, withdraw. Rules: docs/quota-rules.md,
        "Contract"; time is the block's timestamp. Stations are numbered as given to the constructor; whoever deploys is
        the DSO. A balance is the balance of the token, so far as its owner has approved this contract.
@dev Effects come before calls of the token, and one lock closes all calls. What belongs to a station in a round counts
     only if its bit of the round's bitmaps is set, so that a new round has nothing to clear but the bitmaps.
"""

from ethereum.ercs import IERC20
import quota_kernel

MAX_STATIONS: constant(uint256) = 16
MAX_PAIRS: constant(uint256) = 31
MAX_PRICE: constant(uint256) = 10**7  # utok/Wh, of every rate too
MAX_ORDER_WH: constant(uint256) = 10**8
MAX_MARGIN_WH: constant(int256) = 3 * 10**9

IDLE: constant(uint256) = 0
DECLARING: constant(uint256) = 1
TRADING: constant(uint256) = 2
CHARGING: constant(uint256) = 3
SETTLED: constant(uint256) = 4

event RoundOpened:
    period: indexed(uint256)
    margin_wh: int256
    tariff: uint256
    deadlines: uint256[3]

event DemandDeclared:
    station: indexed(uint256)
    declared_wh: uint256
    deposit_utok: uint256

event QuotasAllocated:
    period: indexed(uint256)
    quota_wh: DynArray[uint256, MAX_STATIONS]
    scarce: bool

event OrderSubmitted:
    station: indexed(uint256)
    sells: bool
    price: uint256
    quantity_wh: uint256

event QuotaTraded:
    buyer: indexed(uint256)
    seller: indexed(uint256)
    energy_wh: uint256
    price: uint256

event PaymentMade:
    station: indexed(uint256)
    used_wh: uint256
    fee_utok: uint256
    penalty_utok: uint256
    forfeit_utok: uint256

event DepositReturned:
    station: indexed(uint256)
    amount_utok: uint256

event RoundSettled:
    period: indexed(uint256)

TOKEN: public(immutable(IERC20))
DSO: public(immutable(address))
NUM_STATIONS: public(immutable(uint256))
DEPOSIT_RATE: public(immutable(uint256))  # utok per declared Wh
PENALTY_RATE: public(immutable(uint256))  # utok per Wh above the final quota
FORFEIT_PERMILLE: public(immutable(uint256))  # of the deposit rate, per Wh of quota that is not used
FLOOR: public(immutable(uint256))  # utok/Wh, limits of prices in the auction
CAP: public(immutable(uint256))

stations: public(address[MAX_STATIONS])
number_of: HashMap[address, uint256]  # number of a station plus 1; 0: none

phase: public(uint256)
period: public(uint256)
margin_wh: public(int256)
tariff: public(uint256)
deadlines: public(uint256[3])

# bitmaps of a round, bit i for station i
has_declared: public(uint256)
has_ordered: public(uint256)
is_selling: public(uint256)
has_paid: public(uint256)
has_withdrawn: public(uint256)

declared_wh: uint256[MAX_STATIONS]
quota_wh: uint256[MAX_STATIONS]
deposit_utok: public(uint256[MAX_STATIONS])  # 0 for all between rounds
orders: quota_kernel.Order[MAX_STATIONS]


@deploy
def __init__(
    token: address,
    stations: DynArray[address, MAX_STATIONS],
    deposit_rate: uint256,
    penalty_rate: uint256,
    forfeit_permille: uint256,
    floor_price: uint256,
    cap_price: uint256,
):
    assert len(stations) > 0, "no stations"
    assert max(deposit_rate, penalty_rate) <= MAX_PRICE, "rate out of bounds"
    assert forfeit_permille <= 1000, "permille out of bounds"
    assert floor_price <= cap_price and cap_price <= MAX_PRICE, "price limits out of bounds"
    TOKEN = IERC20(token)
    DSO = msg.sender
    NUM_STATIONS = len(stations)
    DEPOSIT_RATE = deposit_rate
    PENALTY_RATE = penalty_rate
    FORFEIT_PERMILLE = forfeit_permille
    FLOOR = floor_price
    CAP = cap_price
    number: uint256 = 0
    for station: address in stations:
        assert station not in [empty(address), msg.sender] and self.number_of[station] == 0, "station not distinct"
        self.stations[number] = station
        number += 1
        self.number_of[station] = number


@external
@nonreentrant
def initialize(period: uint256, margin_wh: int256, tariff: uint256, deadlines: uint256[3]):
    """
    @notice The DSO opens a round.
    @param deadlines Of declaring, of ordering, and from when on meters are read.
    """
    assert msg.sender == DSO, "not the DSO"
    assert self.phase == IDLE or self.phase == SETTLED, "wrong phase"
    assert block.timestamp < deadlines[0], "deadlines do not rise"
    assert deadlines[0] < deadlines[1] and deadlines[1] < deadlines[2], "deadlines do not rise"
    assert -MAX_MARGIN_WH <= margin_wh and margin_wh <= MAX_MARGIN_WH, "margin out of bounds"
    assert tariff <= MAX_PRICE, "tariff out of bounds"
    self.phase = DECLARING
    self.period = period
    self.margin_wh = margin_wh
    self.tariff = tariff
    self.deadlines = deadlines
    self.has_declared = 0
    self.has_ordered = 0
    self.is_selling = 0
    self.has_paid = 0
    self.has_withdrawn = 0
    log RoundOpened(period=period, margin_wh=margin_wh, tariff=tariff, deadlines=deadlines)


@external
@nonreentrant
def demand_submit(declared_wh: uint256, deposit_utok: uint256):
    """
    @notice A station declares what it wants to charge, and pays the deposit for it.
    """
    station: uint256 = self._station(msg.sender)
    assert self.phase == DECLARING, "wrong phase"
    assert block.timestamp < self.deadlines[0], "too late"
    bit: uint256 = 1 << station
    assert self.has_declared & bit == 0, "done already"
    assert declared_wh <= MAX_ORDER_WH, "demand out of bounds"
    assert deposit_utok >= DEPOSIT_RATE * declared_wh, "deposit too small"
    self.has_declared |= bit
    self.declared_wh[station] = declared_wh
    self.deposit_utok[station] = deposit_utok
    log DemandDeclared(station=station, declared_wh=declared_wh, deposit_utok=deposit_utok)
    self._take(msg.sender, self, deposit_utok)


@external
@nonreentrant
def pre_allocate():
    """
    @notice The DSO shares the margin out.
    """
    assert msg.sender == DSO, "not the DSO"
    assert self.phase == DECLARING, "wrong phase"
    assert block.timestamp >= self.deadlines[0], "too early"
    declared: DynArray[uint256, MAX_STATIONS] = []
    declared_by: uint256 = self.has_declared
    for station: uint256 in range(NUM_STATIONS, bound=MAX_STATIONS):
        demand: uint256 = 0
        if declared_by & (1 << station) != 0:
            demand = self.declared_wh[station]
        declared.append(demand)
    quota: DynArray[uint256, MAX_STATIONS] = []
    scarce: bool = False
    quota, scarce = quota_kernel._allocate(declared, self.margin_wh, self.period)
    for station: uint256 in range(NUM_STATIONS, bound=MAX_STATIONS):
        self.quota_wh[station] = quota[station]
    self.phase = TRADING if scarce else CHARGING
    log QuotasAllocated(period=self.period, quota_wh=quota, scarce=scarce)


@external
@nonreentrant
def submit(sells: bool, price: uint256, quantity_wh: uint256):
    """
    @notice A station orders: sells quota that it has, or buys and puts up price times quantity.
    """
    station: uint256 = self._station(msg.sender)
    assert self.phase == TRADING, "wrong phase"
    assert block.timestamp < self.deadlines[1], "too late"
    bit: uint256 = 1 << station
    assert self.has_ordered & bit == 0, "done already"
    assert FLOOR <= price and price <= CAP, "price out of bounds"
    assert quantity_wh <= MAX_ORDER_WH, "quantity out of bounds"
    if sells:
        assert quantity_wh <= self.quota_wh[station], "more than the quota"
        self.is_selling |= bit
    self.has_ordered |= bit
    self.orders[station] = quota_kernel.Order(price=price, quantity=quantity_wh)
    log OrderSubmitted(station=station, sells=sells, price=price, quantity_wh=quantity_wh)
    if not sells:
        self._take(msg.sender, self, price * quantity_wh)


@external
@nonreentrant
def auction():
    """
    @notice The DSO has the orders matched: buyers pay sellers, and get back what they put up and do not pay.
    """
    assert msg.sender == DSO, "not the DSO"
    assert self.phase == TRADING, "wrong phase"
    assert block.timestamp >= self.deadlines[1], "too early"
    self.phase = CHARGING
    buys: DynArray[quota_kernel.Order, MAX_STATIONS] = []
    sells: DynArray[quota_kernel.Order, MAX_STATIONS] = []
    buys, sells = self._book()
    due: uint256[MAX_STATIONS] = empty(uint256[MAX_STATIONS])  # to whom the contract pays what
    for station: uint256 in range(NUM_STATIONS, bound=MAX_STATIONS):
        due[station] = buys[station].price * buys[station].quantity
    pairs: DynArray[quota_kernel.Pair, MAX_PAIRS] = quota_kernel._match(buys, sells, self.period)
    for pair: quota_kernel.Pair in pairs:
        amount: uint256 = pair.energy * pair.price
        due[pair.buyer] -= amount
        due[pair.seller] += amount
        self.quota_wh[pair.buyer] += pair.energy
        self.quota_wh[pair.seller] -= pair.energy
        log QuotaTraded(buyer=pair.buyer, seller=pair.seller, energy_wh=pair.energy, price=pair.price)
    for station: uint256 in range(NUM_STATIONS, bound=MAX_STATIONS):
        self._give(self.stations[station], due[station])


@external
@nonreentrant
def payment(station: uint256, used_wh: uint256):
    """
    @notice The DSO, who reads the meter, charges a station: from its deposit, then from its balance.
    """
    assert msg.sender == DSO, "not the DSO"
    assert self.phase == CHARGING, "wrong phase"
    assert block.timestamp >= self.deadlines[2], "too early"
    assert station < NUM_STATIONS, "not a station"
    bit: uint256 = 1 << station
    assert self.has_paid & bit == 0, "done already"
    assert used_wh <= MAX_ORDER_WH, "reading out of bounds"
    quota: uint256 = self.quota_wh[station]
    fee: uint256 = used_wh * self.tariff
    penalty: uint256 = 0
    forfeit: uint256 = 0
    if used_wh > quota:
        penalty = (used_wh - quota) * PENALTY_RATE
    else:
        forfeit = (quota - used_wh) * DEPOSIT_RATE * FORFEIT_PERMILLE // 1000
    owed: uint256 = fee + penalty + forfeit
    deposit: uint256 = self.deposit_utok[station]
    from_deposit: uint256 = min(owed, deposit)
    self.has_paid |= bit
    self.deposit_utok[station] = deposit - from_deposit
    log PaymentMade(
        station=station, used_wh=used_wh, fee_utok=fee, penalty_utok=penalty, forfeit_utok=forfeit
    )
    self._give(DSO, from_deposit)
    self._take(self.stations[station], DSO, owed - from_deposit)


@external
@nonreentrant
def withdraw():
    """
    @notice A station takes back what its payment has left of the deposit; the last one ends the round.
    """
    station: uint256 = self._station(msg.sender)
    assert self.phase == CHARGING, "wrong phase"
    bit: uint256 = 1 << station
    assert self.has_paid & bit != 0, "not paid yet"
    assert self.has_withdrawn & bit == 0, "done already"
    self.has_withdrawn |= bit
    if self.has_withdrawn == self._everyone():
        self._settle()
    self._return_deposit(station)


@external
@nonreentrant
def close():
    """
    @notice The DSO ends the round after the last payment; deposits that were not withdrawn go back.
    """
    assert msg.sender == DSO, "not the DSO"
    assert self.phase == CHARGING, "wrong phase"
    assert self.has_paid == self._everyone(), "not all have paid"
    self._settle()
    withdrawn_by: uint256 = self.has_withdrawn
    for station: uint256 in range(NUM_STATIONS, bound=MAX_STATIONS):
        if withdrawn_by & (1 << station) == 0:
            self._return_deposit(station)


@external
@view
def declared_of(station: uint256) -> uint256:
    """
    @notice Wh that a station has declared in this round.
    """
    assert station < NUM_STATIONS, "not a station"
    return self.declared_wh[station] if self.has_declared & (1 << station) != 0 else 0


@external
@view
def quotas() -> DynArray[uint256, MAX_STATIONS]:
    """
    @notice Wh of every station's quota: of the allocation, after the auction the final one; 0 before the allocation.
    """
    result: DynArray[uint256, MAX_STATIONS] = []
    for station: uint256 in range(NUM_STATIONS, bound=MAX_STATIONS):
        result.append(self.quota_wh[station] if self.phase >= TRADING else 0)
    return result


@external
@view
def hold_of(station: uint256) -> uint256:
    """
    @notice utok that a station has put up for a purchase.
    """
    assert station < NUM_STATIONS, "not a station"
    buying: uint256 = self.has_ordered & ~self.is_selling
    if self.phase != TRADING or buying & (1 << station) == 0:
        return 0
    return self.orders[station].price * self.orders[station].quantity


@external
@pure
def allocate(declared: DynArray[uint256, MAX_STATIONS], margin_wh: int256, start: uint256) -> (
    DynArray[uint256, MAX_STATIONS], bool
):
    """
    @notice What `pre_allocate` would hand out: quotas, and whether the margin is scarce.
    """
    return quota_kernel._allocate(declared, margin_wh, start)


@external
@pure
def clear(
    buys: DynArray[quota_kernel.Order, MAX_STATIONS], sells: DynArray[quota_kernel.Order, MAX_STATIONS], start: uint256
) -> DynArray[quota_kernel.Pair, MAX_PAIRS]:
    """
    @notice What `auction` would match.
    """
    return quota_kernel._match(buys, sells, start)


@internal
@view
def _station(caller: address) -> uint256:
    number: uint256 = self.number_of[caller]
    assert number != 0, "not a station"
    return number - 1


@internal
@view
def _everyone() -> uint256:
    return (1 << NUM_STATIONS) - 1


@internal
@view
def _book() -> (DynArray[quota_kernel.Order, MAX_STATIONS], DynArray[quota_kernel.Order, MAX_STATIONS]):
    """
    @notice A buy row and a sell row for every station, of quantity 0 where it has no such order.
    """
    buys: DynArray[quota_kernel.Order, MAX_STATIONS] = []
    sells: DynArray[quota_kernel.Order, MAX_STATIONS] = []
    ordered_by: uint256 = self.has_ordered
    sold_by: uint256 = self.is_selling
    for station: uint256 in range(NUM_STATIONS, bound=MAX_STATIONS):
        buy: quota_kernel.Order = empty(quota_kernel.Order)
        sell: quota_kernel.Order = empty(quota_kernel.Order)
        if sold_by & (1 << station) != 0:
            sell = self.orders[station]
        elif ordered_by & (1 << station) != 0:
            buy = self.orders[station]
        buys.append(buy)
        sells.append(sell)
    return buys, sells


@internal
def _settle():
    self.phase = SETTLED
    log RoundSettled(period=self.period)


@internal
def _return_deposit(station: uint256):
    amount: uint256 = self.deposit_utok[station]
    self.deposit_utok[station] = 0
    log DepositReturned(station=station, amount_utok=amount)
    self._give(self.stations[station], amount)


@internal
def _take(owner: address, receiver: address, amount: uint256):
    if amount > 0:
        assert extcall TOKEN.transferFrom(owner, receiver, amount), "transfer refused"


@internal
def _give(receiver: address, amount: uint256):
    if amount > 0:
        assert extcall TOKEN.transfer(receiver, amount), "transfer refused"

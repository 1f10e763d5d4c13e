# pragma version ~=0.4.3
"""
@title Charging quotas: allocation by cumulative floors, pairwise average auction
@license MIT
@notice Rules: docs/quota-rules.md, "Allocation" and "Auction `pairwise`". Pure functions of a whole period; energy in Wh,
        prices in utok/Wh. Prices are not clipped: the market accepts none outside floor and cap.
"""

MAX_STATIONS: constant(uint256) = 16
MAX_PAIRS: constant(uint256) = 31  # a pair uses up an order, the last one perhaps two

struct Order:
    price: uint256
    quantity: uint256  # 0: no order

struct Pair:
    buyer: uint256
    seller: uint256
    energy: uint256
    price: uint256


@internal
@pure
def _allocate(declared: DynArray[uint256, MAX_STATIONS], margin: int256, start: uint256) -> (
    DynArray[uint256, MAX_STATIONS], bool
):
    """
    @notice Quotas in proportion to what was declared, and whether the margin is scarce.
    @dev A negative margin counts as 0. The cumulative sums begin at station `start` mod the number of stations.
    """
    demanded: uint256 = 0
    for demand: uint256 in declared:
        demanded += demand
    granted: uint256 = 0
    if margin > 0:
        granted = convert(margin, uint256)
    if demanded <= granted:
        return declared, False
    quota: DynArray[uint256, MAX_STATIONS] = declared
    count: uint256 = len(declared)
    first: uint256 = start % count
    running: uint256 = 0
    handed_out: uint256 = 0
    for step: uint256 in range(count, bound=MAX_STATIONS):
        station: uint256 = (first + step) % count
        running += declared[station]
        reached: uint256 = granted * running // demanded
        quota[station] = reached - handed_out
        handed_out = reached
    return quota, True


@internal
@pure
def _match(
    buys: DynArray[Order, MAX_STATIONS], sells: DynArray[Order, MAX_STATIONS], start: uint256
) -> DynArray[Pair, MAX_PAIRS]:
    """
    @notice Algorithm 1: who trades with whom, in the order in which they meet.
    @dev Among equal prices of a side the order of the index, beginning at `start` mod the number of its orders.
    """
    bids: DynArray[uint256, MAX_STATIONS] = self._in_order(buys, start, True)
    offers: DynArray[uint256, MAX_STATIONS] = self._in_order(sells, start, False)
    pairs: DynArray[Pair, MAX_PAIRS] = []
    if len(bids) == 0 or len(offers) == 0:
        return pairs
    bid: uint256 = 0  # place among the bids, and what is left of that bid
    offer: uint256 = 0
    wanted: uint256 = buys[bids[0]].quantity
    offered: uint256 = sells[offers[0]].quantity
    for _: uint256 in range(MAX_PAIRS):
        buyer: uint256 = bids[bid]
        seller: uint256 = offers[offer]
        high: uint256 = buys[buyer].price
        low: uint256 = sells[seller].price
        if high < low:
            break
        energy: uint256 = min(wanted, offered)
        pairs.append(Pair(buyer=buyer, seller=seller, energy=energy, price=(high + low) // 2))
        wanted -= energy
        offered -= energy
        if wanted == 0:
            bid += 1
            if bid == len(bids):
                break
            wanted = buys[bids[bid]].quantity
        if offered == 0:
            offer += 1
            if offer == len(offers):
                break
            offered = sells[offers[offer]].quantity
    return pairs


@internal
@pure
def _in_order(
    orders: DynArray[Order, MAX_STATIONS], start: uint256, falling: bool
) -> DynArray[uint256, MAX_STATIONS]:
    """
    @notice Indices of the orders with a quantity, sorted by price; insertion sort, which keeps the order of equals.
    """
    places: DynArray[uint256, MAX_STATIONS] = []
    count: uint256 = len(orders)
    if count == 0:
        return places
    first: uint256 = start % count
    for step: uint256 in range(count, bound=MAX_STATIONS):
        index: uint256 = (first + step) % count
        if orders[index].quantity == 0:
            continue
        price: uint256 = orders[index].price
        place: uint256 = len(places)
        places.append(index)
        for _: uint256 in range(MAX_STATIONS):
            if place == 0:
                break
            before: uint256 = places[place - 1]
            if (falling and orders[before].price >= price) or (not falling and orders[before].price <= price):
                break
            places[place] = before
            place -= 1
        places[place] = index
    return places

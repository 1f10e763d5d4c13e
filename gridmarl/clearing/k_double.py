"""The k-double auction: one price at a chosen point of the interval of market-clearing prices.

Source: M. A. Satterthwaite and S. R. Williams, "Bilateral trade with the sealed bid k-double auction: existence and
efficiency", Journal of Economic Theory 48 (1989) 107-133. With `[low, high]` the prices at which the book clears, all
pay and get `low + k * (high - low)`, here `low + (k_permille * (high - low)) // 1000`. `low` and `high` come from
traded and untraded orders alike, so that nobody who did not trade would have wanted to at the price.

* k = 1, the buyer's bid double auction: the price is `high`, on which a seller of one unit has no influence as long as
  it sells, so its true cost is its best ask.
* k = 0, the seller's offer double auction: the mirror image, truthful for a buyer of one unit.

`uniform` (`gridmarl.clearing.uniform`) is the same auction with k = 1/2.
"""

from __future__ import annotations

from torch import Tensor

from gridmarl.clearing.book import Clearing
from gridmarl.clearing.uniform import clear_uniform
from gridmarl.units import PERMILLE

BUYERS_BID_PERMILLE = PERMILLE
SELLERS_OFFER_PERMILLE = 0


def clear_k_double(
    buy_price: Tensor,
    buy_wh: Tensor,
    sell_price: Tensor,
    sell_wh: Tensor,
    floor: Tensor,
    cap: Tensor,
    start: int | Tensor,
    *,
    k_permille: int = 500,
) -> Clearing:
    """Clear one book per lane at the k-point; arguments and outcome as of `clear_uniform`.

    Args:
        buy_price, buy_wh: `[B, E]` int64, µtok/Wh and Wh.
        sell_price, sell_wh: `[S, E]` int64.
        floor, cap: `[E]` int64, `floor <= cap`.
        start: start of the pro-rata rotations.
        k_permille: 0 (all of the gain at the margin to the buyers) .. 1000 (to the sellers).

    Raises:
        ConfigError: `k_permille` out of range.
    """
    return clear_uniform(buy_price, buy_wh, sell_price, sell_wh, floor, cap, start, k_permille=k_permille)

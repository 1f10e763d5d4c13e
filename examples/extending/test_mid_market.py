"""The mechanism passes the public conformance suite, and nobody moves its price."""

import torch
from gridmarl_mid_market import mid_market

from gridmarl.testing import check_mechanism
from gridmarl.testing.mechanism import random_books


def test_conformance():
    check_mechanism(mid_market)


def test_no_bid_moves_the_price():
    buy_price, buy_wh, sell_price, sell_wh, floor, cap = random_books(4, 64, seed=1)
    one = mid_market(buy_price, buy_wh, sell_price, sell_wh, floor, cap, 0)
    two = mid_market(buy_price - 1, buy_wh * 2, sell_price, sell_wh, floor, cap, 0)
    assert torch.equal(one.price, two.price)


def test_the_longer_side_shares():
    book = ([[8], [8], [2]], [[3], [6], [9]], [[4]], [[3]], [0], [10])
    cleared = mid_market(*(torch.tensor(column) for column in book), 0)
    assert cleared.price.tolist() == [5]
    assert cleared.buy_fill_wh.T.tolist() == [[1, 2, 0]]
    assert cleared.sell_fill_wh.tolist() == [[3]]

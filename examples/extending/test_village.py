"""The scenario passes the public conformance suite, also under flat tariffs, and is what it says."""

import torch
from gridmarl_village import BAKERY, village

from gridmarl.random import lane_keys
from gridmarl.scenarios.scenario import draw_lanes
from gridmarl.testing import check_scenario


def test_conformance():
    check_scenario(village)
    check_scenario(village, retail_price_utok_per_wh=22_000, feed_in_tariff_utok_per_wh=4_000)


def test_the_bakery_rests_on_sundays():
    load = village().load_wh
    assert load[0, :, 5].tolist() == BAKERY
    assert load[1, :, 5].unique().tolist() == [200]
    assert torch.equal(load[0, :, :5], load[1, :, :5])


def test_prices_stay_cheap_or_dear_for_a_while():
    draws = draw_lanes(village(), lane_keys(0, 512), 24)
    dear = draws.wholesale_utok_per_wh - village().price_value[:, :1] > 0
    changes = (dear[1:] != dear[:-1]).float().mean()
    assert 0.08 < float(changes) < 0.12

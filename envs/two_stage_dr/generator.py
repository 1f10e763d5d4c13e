"""Start of an episode, and the situation of each hour: everything drawn, nothing decided."""

from __future__ import annotations

import torch
from torch import Tensor

from gridmarl.contracts.two_stage import Phase
from gridmarl.envs.two_stage_dr.params import TwoStageDRParams
from gridmarl.envs.two_stage_dr.state import Home, State
from gridmarl.errors import ConfigError
from gridmarl.preferences import calibrated_beta, calibrated_gamma, demand_at, floor_div, outside_option
from gridmarl.random import Purpose, draw, lane_keys
from gridmarl.scenarios.scenario import LaneDraws, Scenario, conditions, draw_lanes
from gridmarl.units import MAX_BOOK_WH, MAX_PRICE_UTOK_PER_WH, PERMILLE


def reference_price(params: TwoStageDRParams, scenario: Scenario) -> int:
    """The price at which demand equals the reference load: as configured, else the mean import price, at least 1."""
    if params.reference_price_utok_per_wh > 0:
        return params.reference_price_utok_per_wh
    if params.import_form == "retail":
        return max(1, params.retail_price_utok_per_wh)
    return max(1, scenario.reference_price_utok_per_wh + params.import_adder_utok_per_wh)


def outside_prices(params: TwoStageDRParams, wholesale: Tensor) -> tuple[Tensor, Tensor]:
    """Import and export price of every hour, `[T, E]`; ConfigError where import falls below export."""
    if params.import_form == "wholesale":
        import_price = wholesale + params.import_adder_utok_per_wh
    else:
        import_price = torch.full_like(wholesale, params.retail_price_utok_per_wh)
    if params.export_form == "wholesale":
        export_price = wholesale - params.export_margin_utok_per_wh
    else:
        export_price = torch.full_like(wholesale, params.feed_in_tariff_utok_per_wh)
    if params.import_form != params.export_form and (params.import_form == "retail" or params.export_form == "feed_in"):
        _check_spread(import_price, export_price)
    return import_price, export_price


def _check_spread(import_price: Tensor, export_price: Tensor) -> None:
    """Import below export would make the optimum unbounded. Possible only where one price follows wholesale."""
    wrong = (import_price < export_price).any(1)
    if bool(wrong.any()):
        hour = int(wrong.to(torch.int64).argmax())
        lane = int((import_price[hour] < export_price[hour]).to(torch.int64).argmax())
        raise ConfigError(
            f"import price below export price in hour {hour}, lane {lane}: {int(import_price[hour, lane])} < "
            f"{int(export_price[hour, lane])} µtok/Wh; allowed is import >= export (raise retail_price_utok_per_wh, "
            "lower feed_in_tariff_utok_per_wh, or use wholesale forms)"
        )


def check_bounds(params: TwoStageDRParams, scenario: Scenario) -> None:
    """Once per environment, on the tables: no sum or product of the market can overflow int64 (see units.py)."""
    ratio = int(scenario.load_ratio_permille.max())
    most_load = int(scenario.load_wh.max()) * ratio // PERMILLE * max(PERMILLE, params.demand_max_permille) // PERMILLE
    most_pv = int(scenario.pv_wh.max()) * params.pv_scale_permille // PERMILLE
    most_pv = most_pv * int(scenario.pv_ratio_permille.max()) // PERMILLE
    error = int(scenario.forecast_error_permille.abs().max()) * params.forecast_error_permille // PERMILLE
    most_pv = most_pv * (PERMILLE + error) // PERMILLE
    backlog = most_load * (params.shift_deadline_hours if params.has_shifting else 0)
    order = most_load + backlog + most_pv + params.battery_capacity_wh * PERMILLE // params.battery_efficiency_permille
    if order * params.num_prosumers > MAX_BOOK_WH:
        raise ConfigError(
            f"num_prosumers: {params.num_prosumers} prosumers with orders of up to {order} Wh, allowed is a book of "
            f"at most {MAX_BOOK_WH} Wh"
        )
    _check_utility(params, scenario, most_load)
    price = int(scenario.price_value.abs().max()) + params.import_adder_utok_per_wh + params.export_margin_utok_per_wh
    if price > MAX_PRICE_UTOK_PER_WH:
        raise ConfigError(f"prices of up to {price} µtok/Wh, allowed are at most {MAX_PRICE_UTOK_PER_WH}")


def _check_utility(params: TwoStageDRParams, scenario: Scenario, most_wh: int) -> None:
    """`beta d` and `gamma d²` must fit in int64; `gamma L` is constant, so both are greatest at the greatest load."""
    reference, elasticity = reference_price(params, scenario), params.elasticity_permille
    load = max(1, most_wh * PERMILLE // max(PERMILLE, params.demand_max_permille))
    gamma = 1 + 2 * PERMILLE * PERMILLE * reference // (elasticity * load)
    largest = max(calibrated_beta(reference, elasticity) * most_wh, gamma * most_wh * most_wh)
    if largest >= 2**62:
        raise ConfigError(
            f"elasticity_permille: {elasticity} with consumption of up to {most_wh} Wh and a reference price of "
            f"{reference} µtok/Wh gives utilities beyond 64 bits; allowed are smaller loads or a greater elasticity"
        )


def price_bits(params: TwoStageDRParams) -> int:
    """Bits that hold any difference between import and export price; known beforehand where both follow wholesale."""
    if params.import_form == "wholesale" and params.export_form == "wholesale":
        spread = params.import_adder_utok_per_wh + params.export_margin_utok_per_wh
    elif params.import_form == "retail" and params.export_form == "feed_in":
        spread = params.retail_price_utok_per_wh - params.feed_in_tariff_utok_per_wh
    else:
        spread = 4 * MAX_PRICE_UTOK_PER_WH
    return max(1, (spread + 1).bit_length())


def home_at(
    params: TwoStageDRParams,
    scenario: Scenario,
    *,
    reference: int,
    beta: int,
    keys: Tensor,
    draws: LaneDraws,
    hour: int | Tensor,
    import_price: Tensor,
    export_price: Tensor,
) -> Home:
    """The prosumers' situation in an hour; `import_price` and `export_price` are `[E]`."""
    drawn = conditions(
        scenario,
        draws,
        keys,
        hour,
        params.num_prosumers,
        pv_scale_permille=params.pv_scale_permille,
        forecast_error_permille=params.forecast_error_permille,
    )
    load = drawn.load_wh
    gamma = calibrated_gamma(load, reference, params.elasticity_permille)
    d_min = floor_div(load * params.demand_min_permille, PERMILLE)
    d_max = floor_div(load * params.demand_max_permille, PERMILLE)
    at_import = demand_at(import_price, beta, gamma, d_min, d_max)
    at_export = demand_at(export_price, beta, gamma, d_min, d_max)
    _, outside = outside_option(at_import, at_export, drawn.forecast_wh, beta, gamma, import_price, export_price)
    return Home(
        gamma=gamma,
        d_min_wh=d_min,
        d_max_wh=d_max,
        forecast_wh=drawn.forecast_wh,
        generation_wh=drawn.generation_wh,
        at_import_wh=at_import,
        at_export_wh=at_export,
        comfort_wh=demand_at(0, beta, gamma, d_min, d_max),
        outside_utok=outside,
    )


def reset(
    params: TwoStageDRParams,
    scenario: Scenario,
    seed: int,
    num_envs: int,
    *,
    first_lane: int = 0,
    episode: int = 0,
) -> State:
    """State at the start of an episode in `num_envs` lanes, on the scenario's device.

    Lane `i` of any batch equals the single run with `first_lane=i`, bit for bit.
    """
    device = scenario.load_wh.device
    keys = lane_keys(seed, num_envs, first_lane=first_lane, episode=episode, device=device)
    draws = draw_lanes(scenario, keys, params.horizon_hours)
    import_price, export_price = outside_prices(params, draws.wholesale_utok_per_wh)
    reference = reference_price(params, scenario)
    beta = calibrated_beta(reference, params.elasticity_permille)
    home = home_at(
        params,
        scenario,
        reference=reference,
        beta=beta,
        keys=keys,
        draws=draws,
        hour=0,
        import_price=import_price.select(0, 0),
        export_price=export_price.select(0, 0),
    )
    prosumers = params.num_prosumers
    slots = params.shift_deadline_hours if params.has_shifting else 0
    balances = torch.zeros((prosumers + 3, num_envs), dtype=torch.int64, device=device)
    if params.initial_balance_utok:
        funded = torch.arange(prosumers + 3, device=device).unsqueeze(1) < prosumers
        balances = balances + funded * params.initial_balance_utok
    receipts = None
    if params.has_strict_finality:
        receipts = torch.zeros((params.unfinal_hours, prosumers, num_envs), dtype=torch.int64, device=device)
    return State(
        hour=0,
        phase=Phase.BIDDING,
        beta=beta,
        keys=keys,
        draws=draws,
        import_price=import_price,
        export_price=export_price,
        participates=_participants(params, keys),
        home=home,
        backlog=torch.zeros((slots, prosumers, num_envs), dtype=torch.int64, device=device),
        soc_wh=torch.full((prosumers, num_envs), params.battery_initial_wh, dtype=torch.int64, device=device),
        balances=balances,
        last_price=torch.zeros_like(import_price.select(0, 0)),
        last_dr_price=torch.zeros_like(import_price.select(0, 0)),
        clamped_actions=torch.zeros_like(import_price.select(0, 0)),
        overdrawn=torch.zeros(num_envs, dtype=torch.bool, device=device),
        receipts=receipts,
    )


def _participants(params: TwoStageDRParams, keys: Tensor) -> Tensor:
    """Exactly `P * participation // 1000` prosumers of each lane take part for the whole episode; `[P, E]` bool."""
    count = params.num_prosumers * params.participation_permille // PERMILLE
    tickets = draw(keys, 0, Purpose.PARTICIPATION, params.num_prosumers).select(0, 0)
    ranks = tickets.argsort(dim=0, stable=True).argsort(dim=0, stable=True)
    return ranks < count

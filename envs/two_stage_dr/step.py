"""One step of TwoStageDR as named stages: collect bids, clear, reschedule, settle, advance. Pure; docs/market-rules.md.

All tensors int64, lanes last (`P` prosumers, `E` lanes); no host synchronisation, so a step can run on any device and
compile to one graph. All lanes walk through an episode together: the hour is a host integer, or a `[]` tensor where one
compiled graph is to serve all hours but the last (`last` is known on the host either way).
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from gridmarl.clearing.book import Clearing
from gridmarl.clearing.registry import get_mechanism
from gridmarl.clearing.uniform import clear_uniform
from gridmarl.contracts import two_stage as contract
from gridmarl.contracts.two_stage import Credit, Flows, Phase, next_phase, require_phase
from gridmarl.envs.base.state import StepResult
from gridmarl.envs.two_stage_dr.actions import HALF_LEVELS, LEVEL_BITS, Levels, pick, quantise
from gridmarl.envs.two_stage_dr.generator import home_at, price_bits, reference_price
from gridmarl.envs.two_stage_dr.observe import rule_reduction_wh
from gridmarl.envs.two_stage_dr.params import TwoStageDRParams
from gridmarl.envs.two_stage_dr.state import Home, Market, Orders, State
from gridmarl.errors import ConfigError
from gridmarl.ledger.hour import HourRecord
from gridmarl.preferences import floor_div, utility_utok
from gridmarl.protocols import ActionSpec
from gridmarl.scenarios.lanes import at
from gridmarl.scenarios.scenario import Scenario
from gridmarl.testing.errors import ConformanceError
from gridmarl.testing.mechanism import check_mechanism, check_outcome
from gridmarl.units import PERMILLE


class Settled(NamedTuple):
    """Everything that happened in an hour; `[P, E]` unless said otherwise."""

    hour: int
    import_price: Tensor  # [E]
    export_price: Tensor  # [E]
    home: Home
    orders: Orders
    market: Market
    offered_wh: Tensor  # reduction offered in stage 2
    accepted_wh: Tensor  # of it, accepted
    shifted_wh: Tensor  # of it, returning later
    flows: Flows
    received_utok: Tensor  # change of each prosumer's account
    comfort_utok: Tensor  # utility less discomfort
    balances: Tensor  # [P+3, E] after the hour
    credit: Credit | None = None  # strict finality only

    @property
    def reward_utok(self) -> Tensor:
        """Money-metric utility of the hour."""
        return self.comfort_utok + self.received_utok

    @property
    def load_wh(self) -> Tensor:
        """Metered load: consumption after reductions, returned energy and battery charge."""
        return self.orders.buy_wh - self.accepted_wh


def step(
    params: TwoStageDRParams,
    spec: ActionSpec,
    scenario: Scenario,
    state: State,
    actions: Tensor,
    alpha_permille: Tensor | None = None,
) -> tuple[State, StepResult[Settled]]:
    """Advance all lanes by one step.

    Args:
        actions: `[E, P]` int64 or `[E, P, size]` float32, see `actions.py`.
        alpha_permille: `[E]`, the operator's choice for this hour; None: the constant of the parameters.
    """
    last = state.hour == params.horizon_hours - 1
    return step_at(params, spec, scenario, state, state.hour, last, actions, alpha_permille)


def step_at(
    params: TwoStageDRParams,
    spec: ActionSpec,
    scenario: Scenario,
    state: State,
    hour: int | Tensor,
    last: bool,
    actions: Tensor,
    alpha_permille: Tensor | None = None,
    keep_accounts: bool = True,
) -> tuple[State, StepResult[Settled]]:
    """`step` in the given hour, whatever `state.hour` says: that one is only counted on.

    Args:
        hour: hour of the episode; an int, or a `[]` int64 tensor on the device of the state.
        last: it is the last one.
        keep_accounts: update the balances; else they stay as they are (not under strict finality: bids hang on them).
    """
    keep_accounts = keep_accounts or params.has_strict_finality
    levels, clamped = quantise(params, spec, actions)
    state = state.with_changes(clamped_actions=state.clamped_actions + clamped)
    if state.phase is not Phase.RESCHEDULING:
        require_phase(state.phase, Phase.BIDDING)
        phase = next_phase(state.phase, "clear")
        orders = collect_orders(params, state, hour, last, levels)
        market = clear(params, state, hour, orders, alpha_permille)
        state = state.with_changes(orders=orders, market=market, phase=phase)
        if params.stage2 == "learned":
            return state, StepResult(torch.zeros_like(orders.buy_wh), False, None)
        offered = rule_reduction_wh(state)
    else:
        offered = chosen_reduction(state, levels)
    settled = settle(params, state, hour, last, offered, keep_accounts)
    state = advance(params, scenario, state, hour, last, settled)
    return state, StepResult(settled.reward_utok, last, settled)


def collect_orders(params: TwoStageDRParams, state: State, hour: int | Tensor, last: bool, levels: Levels) -> Orders:
    """Stage 1: the prosumers' orders."""
    home = state.home
    low, high = at(state.export_price, hour), at(state.import_price, hour)
    demand = home.comfort_wh if params.stage1 == "comfort" else pick(levels.quantity, home.d_min_wh, home.d_max_wh)
    slots = state.backlog.shape[0]
    returned = at(state.backlog, hour % slots) if slots else torch.zeros_like(demand)
    buy_wh, sell_wh = demand + returned, home.forecast_wh
    charge = discharge = torch.zeros_like(demand)
    if params.has_battery:
        charge, discharge = battery_flows(params, state, last, levels)
        buy_wh, sell_wh = buy_wh + charge, sell_wh + discharge
    return Orders(
        buy_price=pick(levels.buy_price, low, high),
        buy_wh=buy_wh,
        sell_price=pick(levels.sell_price, low, high),
        sell_wh=sell_wh,
        demand_wh=demand,
        returned_wh=returned,
        charge_wh=charge,
        discharge_wh=discharge,
    )


def battery_flows(params: TwoStageDRParams, state: State, last: bool, levels: Levels) -> tuple[Tensor, Tensor]:
    """Charge and discharge in Wh, within power, room and charge; in the last hour what restores the initial charge."""
    soc, efficiency = state.soc_wh, params.battery_efficiency_permille
    if last:
        missing = params.battery_initial_wh - soc
        return -floor_div(-missing.clamp(min=0) * PERMILLE, efficiency), (-missing).clamp(min=0)
    assert levels.battery is not None
    wish = levels.battery - HALF_LEVELS
    power = (params.battery_power_w * wish.abs()) >> (LEVEL_BITS - 1)
    room = floor_div((params.battery_capacity_wh - soc) * PERMILLE, efficiency)
    return torch.minimum(power, room) * (wish > 0), torch.minimum(power, soc) * (wish < 0)


def clear(
    params: TwoStageDRParams, state: State, hour: int | Tensor, orders: Orders, alpha_permille: Tensor | None
) -> Market:
    """Clearing by merit order, and the demand-response price, eqs. (2) and (3)."""
    floor, cap = at(state.export_price, hour), at(state.import_price, hour)
    refused, buy_wh = None, orders.buy_wh
    if params.has_strict_finality:
        admitted = contract.may_buy(orders.buy_price, buy_wh, state.spendable_utok, params.local_credit_utok)
        if admitted is not None:
            refused, buy_wh = admitted.logical_not() & (buy_wh > 0), buy_wh * admitted
    book = (orders.buy_price, buy_wh, orders.sell_price, orders.sell_wh, floor, cap)
    start = hour % params.num_prosumers
    if params.has_plugin_mechanism:
        cleared = clear_by_plugin(params.price_rule, book, start)
    else:
        cleared = clear_uniform(
            *book,
            start,
            k_permille=params.k_permille,
            price_rule=params.price_rule,
            price_bits=price_bits(params),
        )
    alpha = torch.full_like(cap, params.alpha_permille) if alpha_permille is None else alpha_permille
    shortage = (orders.buy_wh.sum(0) - orders.sell_wh.sum(0)).clamp(min=0)
    dr_price = contract.dr_price(cleared.price, shortage, alpha, cap)
    return Market(
        price=cleared.price,
        buy_fill_wh=cleared.buy_fill_wh,
        sell_fill_wh=cleared.sell_fill_wh,
        volume_wh=cleared.volume_wh,
        shortage_wh=shortage,
        dr_price=dr_price,
        reduction_price=contract.reduction_price(params.dr_settlement, cleared.price, dr_price),
        alpha_permille=alpha,
        refused=refused,
    )


Book = tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]


def clear_by_plugin(name: str, book: Book, start: int | Tensor) -> Clearing:
    """Clearing by a mechanism of somebody else's. It works on a copy, and what it returns is checked before it settles.

    Raises:
        ConfigError: the mechanism loses energy, fills beyond an order, or trades against a limit price.
    """
    buy_price, buy_wh, sell_price, sell_wh, floor, cap = (item.clone() for item in book)
    cleared = get_mechanism(name)(buy_price, buy_wh, sell_price, sell_wh, floor, cap, start)
    try:
        check_outcome(book, cleared, one_price=True)
    except ConformanceError as error:
        raise ConfigError(f"price_rule: {name!r} cleared a book wrongly: {error}") from error
    return cleared


def check_plugin(name: str) -> None:
    """The conformance suite on a few small books, before a market is built on a mechanism.

    Raises:
        ConfigError: the mechanism does not conform, or raises whatever it may.
    """
    try:
        check_mechanism(get_mechanism(name), orders=4, lanes=64)
    except ConfigError:
        raise
    except Exception as error:  # code of others: anything can go wrong in it
        raise ConfigError(f"price_rule: {name!r} fails on small books: {type(error).__name__}: {error}") from error


def chosen_reduction(state: State, levels: Levels) -> Tensor:
    """Learned stage 2: the share of `d - d_min` that the action offers; 0 for those who do not take part."""
    assert levels.reduction is not None and state.orders is not None and state.market is not None
    room = state.orders.demand_wh - state.home.d_min_wh
    return ((room * levels.reduction) >> LEVEL_BITS) * (state.participates & (state.market.dr_price > 0))


def settle(
    params: TwoStageDRParams,
    state: State,
    hour: int | Tensor,
    last: bool,
    offered_wh: Tensor,
    keep_accounts: bool = True,
) -> Settled:
    """Stage 2 and final settlement: accept reductions up to the shortage, meter, pay."""
    require_phase(state.phase, Phase.RESCHEDULING)
    assert state.orders is not None and state.market is not None
    orders, market, home = state.orders, state.market, state.home
    import_price, export_price = at(state.import_price, hour), at(state.export_price, hour)
    accepted = contract.accept_reductions(offered_wh, market.shortage_wh, hour % params.num_prosumers)
    consumption = orders.demand_wh - accepted
    if params.has_shifting and not last:
        shifted = floor_div(accepted * params.shift_share_permille, PERMILLE)
    else:
        shifted = torch.zeros_like(accepted)
    flow = contract.flows(
        buy_wh=orders.buy_wh,
        buy_fill_wh=market.buy_fill_wh,
        sell_wh=orders.sell_wh,
        sell_fill_wh=market.sell_fill_wh,
        accepted_wh=accepted,
        deviation_wh=home.forecast_wh - home.generation_wh,
        price=market.price,
        reduction_price_=market.reduction_price,
        import_price=import_price,
        export_price=export_price,
        penalty_permille=params.penalty_permille,
    )
    received = contract.prosumer_payments(flow)
    comfort = utility_utok(consumption + shifted, state.beta, home.gamma) - params.discomfort_utok_per_wh * shifted
    balances, credit = state.balances, None
    if state.receipts is not None:
        credit = contract.charge_interest(balances, flow, received, state.receipts, params.credit_interest_ppm)
        received = received - credit.interest_utok
    if keep_accounts:
        interest = None if credit is None else credit.interest_utok
        balances = contract.settle(balances, flow, received, import_price, export_price, interest)
    return Settled(
        hour=state.hour,
        import_price=import_price,
        export_price=export_price,
        home=home,
        orders=orders,
        market=market,
        offered_wh=offered_wh,
        accepted_wh=accepted,
        shifted_wh=shifted,
        flows=flow,
        received_utok=received,
        comfort_utok=comfort,
        balances=balances,
        credit=credit,
    )


def advance(
    params: TwoStageDRParams, scenario: Scenario, state: State, hour: int | Tensor, last: bool, settled: Settled
) -> State:
    """Carry backlog, battery and accounts over, and draw the next hour; at the horizon the contract closes."""
    changes: dict[str, object] = {}
    if params.has_battery:
        stored = floor_div(settled.orders.charge_wh * params.battery_efficiency_permille, PERMILLE)
        changes["soc_wh"] = state.soc_wh + stored - settled.orders.discharge_wh
    if params.has_shifting:
        changes["backlog"] = next_backlog(params, state, hour, last, settled.shifted_wh)
    if settled.credit is not None:
        changes["receipts"] = settled.credit.receipts
    if params.credit_limit_utok is not None:
        short = (settled.balances.narrow(0, 0, params.num_prosumers) < -params.credit_limit_utok).any(0)
        changes["overdrawn"] = state.overdrawn | short
    if not last:
        following = hour + 1
        changes["home"] = home_at(
            params,
            scenario,
            reference=reference_price(params, scenario),
            beta=state.beta,
            keys=state.keys,
            draws=state.draws,
            hour=following,
            import_price=at(state.import_price, following),
            export_price=at(state.export_price, following),
        )
    return state.with_changes(
        hour=state.hour + 1,
        phase=next_phase(state.phase, "close" if last else "settle"),
        balances=settled.balances,
        last_price=settled.market.price,
        last_dr_price=settled.market.dr_price,
        orders=None,
        market=None,
        **changes,
    )


def next_backlog(params: TwoStageDRParams, state: State, hour: int | Tensor, last: bool, shifted_wh: Tensor) -> Tensor:
    """Backlog after this hour: this hour's slot is served, shifted energy joins the slot of its return hour."""
    slots = state.backlog.shape[0]
    slot = torch.arange(slots, device=state.device).reshape(-1, 1, 1)
    kept = state.backlog * (slot != hour % slots)
    if last:
        return kept
    target = (contract.return_offset(state.import_price, hour, params.shift_deadline_hours) + hour) % slots
    return kept + shifted_wh * (slot == target)


def hour_record(settled: Settled) -> HourRecord:
    """What the ledger needs of a settled hour."""
    orders, market, flow = settled.orders, settled.market, settled.flows
    return HourRecord(
        period=settled.hour,
        import_price=settled.import_price,
        export_price=settled.export_price,
        alpha_permille=market.alpha_permille,
        price=market.price,
        dr_price=market.dr_price,
        shortage_wh=market.shortage_wh,
        volume_wh=market.volume_wh,
        buy_price=orders.buy_price,
        buy_wh=orders.buy_wh,
        sell_price=orders.sell_price,
        sell_wh=orders.sell_wh,
        demand_wh=orders.demand_wh,
        offered_wh=settled.offered_wh,
        returned_wh=orders.returned_wh,
        charge_wh=orders.charge_wh,
        discharge_wh=orders.discharge_wh,
        generation_wh=settled.home.generation_wh,
        load_wh=settled.load_wh,
        flow_wh=flow.wh,
        flow_price=flow.price.unsqueeze(1).expand_as(flow.wh),
        upstream_wh=flow.upstream_wh,
        balances=settled.balances,
        debts_utok=flow.wh.narrow(0, 0, 0) if settled.credit is None else settled.credit.debts_utok,
    )

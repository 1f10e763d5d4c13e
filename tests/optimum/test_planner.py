"""The planner against optima worked out by hand, an independent formulation, and its own invariants."""

from __future__ import annotations

import subprocess
import sys
import warnings
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from gridmarl.errors import MissingExtraError
from gridmarl.optimum import MAX_RELATIVE_GAP, Plan, PlanProblem, SolverError, plan
from gridmarl.optimum import planner as planner_module
from tests.optimum.instances import flexible, home, naive_welfare_utok, random_problem

EXACT = 1e-8


def near(value: float) -> object:
    return pytest.approx(value, rel=EXACT, abs=1e-3)


class TestByHand:
    def test_one_home_imports_until_marginal_utility_is_the_import_price(self) -> None:
        result = plan(home(1, generation_wh=500))
        # 30,000 - 10 d = 10,000 at d = 2,000; utility 40e6, import 1,500 Wh for 15e6.
        assert result.consumption_wh[0, 0] == near(2_000)
        assert result.welfare_utok == near(25_000_000)
        assert (result.import_wh[0], result.export_wh[0]) == (near(1_500), 0)
        assert result.dual_price_utok_per_wh[0] == near(10_000)
        assert result.break_even_price_utok_per_wh[0] == near(10_000)
        assert result.average_cost_utok_per_wh[0] == near(7_500)  # 15e6 for 2,000 Wh
        assert result.bill_utok == near(15_000_000)

    def test_export_binds(self) -> None:
        result = plan(home(1, generation_wh=6_000))
        # 30,000 - 10 d = 4,000 at d = 2,600, utility 44.2e6; 3,400 Wh leave at 4,000.
        assert result.consumption_wh[0, 0] == near(2_600)
        assert result.welfare_utok == near(44_200_000 + 13_600_000)
        assert result.export_revenue_utok == near(13_600_000)
        assert result.dual_price_utok_per_wh[0] == near(4_000)
        assert result.bill_utok == near(-13_600_000)

    def test_nothing_exchanged_leaves_the_price_strictly_between(self) -> None:
        result = plan(home(1, generation_wh=2_500))
        assert result.consumption_wh[0, 0] == near(2_500)
        assert result.import_wh[0] + result.export_wh[0] < 1e-3
        assert result.dual_price_utok_per_wh[0] == pytest.approx(5_000, rel=1e-6)
        assert result.break_even_price_utok_per_wh[0] == pytest.approx(5_000, rel=1e-6)
        assert result.welfare_utok == near(30_000 * 2_500 - 5 * 2_500**2)

    def test_complementary_generation_is_worth_the_price_spread(self) -> None:
        problem = PlanProblem(
            beta_utok_per_wh=np.full((2, 2), 30_000),
            gamma_ntok_per_wh2=np.full((2, 2), 10_000),
            d_min_wh=np.full((2, 2), 1_500),
            d_max_wh=np.full((2, 2), 1_500),
            generation_wh=[[3_000, 0], [0, 3_000]],
            import_price_utok_per_wh=[10_000, 10_000],
            export_price_utok_per_wh=[4_000, 4_000],
        )
        together, alone = plan(problem), plan(problem, pooled=False)
        assert together.welfare_utok == near(4 * (30_000 * 1_500 - 5 * 1_500**2))
        assert together.welfare_utok - alone.welfare_utok == near(2 * 1_500 * (10_000 - 4_000))
        assert alone.bill_utok == pytest.approx([9_000_000, 9_000_000])
        assert alone.import_wh == pytest.approx([1_500, 1_500])
        assert alone.dual_price_utok_per_wh == pytest.approx(np.array([[4_000, 10_000], [10_000, 4_000]]))
        assert np.isnan(alone.break_even_price_utok_per_wh).all()

    def test_battery_arbitrage(self) -> None:
        problem = home(
            3,
            d_max_wh=0,
            import_price_utok_per_wh=[5_000, 20_000, 20_000],
            export_price_utok_per_wh=[4_000, 18_000, 4_000],
            battery_capacity_wh=4_000,
            battery_power_w=2_000,
            battery_efficiency_permille=800,
        )
        result = plan(problem)
        # 2,000 Wh bought at 5,000 become 1,600 Wh sold at 18,000.
        assert result.charge_wh[0] == pytest.approx([2_000, 0, 0], abs=1e-3)
        assert result.discharge_wh[0] == pytest.approx([0, 1_600, 0], abs=1e-3)
        assert result.soc_wh[0] == pytest.approx([1_600, 0, 0], abs=1e-3)
        assert result.welfare_utok == near(28_800_000 - 10_000_000)

    def test_a_lossless_battery_never_charges_and_discharges_at_once(self) -> None:
        # Doing both would change nothing, so that the optimum is not unique.
        result = plan(random_problem(6, 2, 8, **flexible(battery_efficiency_permille=1_000)))
        assert result.overlap_wh == 0
        assert result.charge_wh.sum() > 1_000

    def test_last_hour_restores_the_charge_beyond_the_power_limit(self) -> None:
        problem = home(
            2,
            d_max_wh=0,
            import_price_utok_per_wh=[50_000, 5_000],
            export_price_utok_per_wh=[50_000, 5_000],
            battery_capacity_wh=2_000,
            battery_power_w=1_000,
            battery_efficiency_permille=800,
            battery_initial_wh=1_500,
        )
        result = plan(problem)
        assert result.charge_wh[0] == pytest.approx([0, 1_250], abs=1e-3)
        assert result.welfare_utok == near(50_000_000 - 1_250 * 5_000)

    def test_shifting_pays_the_price_difference_less_discomfort(self) -> None:
        problem = home(
            2,
            beta_utok_per_wh=100_000,
            gamma_ntok_per_wh2=1,
            d_max_wh=1_000,
            import_price_utok_per_wh=[50_000, 10_000],
            export_price_utok_per_wh=[0, 0],
            shift_share_permille=1_000,
            shift_deadline_hours=1,
            discomfort_utok_per_wh=5_000,
        )
        result = plan(problem)
        assert result.shifted_wh[0] == pytest.approx([1_000, 0], abs=1e-3)
        assert result.returned_wh[0] == pytest.approx([0, 1_000], abs=1e-3)
        assert result.load_wh[0] == pytest.approx([0, 2_000], abs=1e-3)
        assert result.discomfort_utok == near(5_000_000)
        assert result.welfare_utok == near(2 * (100_000_000 - 500) - 5_000_000 - 20_000_000)

    @pytest.mark.parametrize(("beta", "shifted"), [(60_000, 500), (100_000, 0)])
    def test_what_is_not_shifted_of_a_reduction_is_lost(self, beta: int, shifted: int) -> None:
        problem = home(
            2,
            beta_utok_per_wh=beta,
            gamma_ntok_per_wh2=1,
            d_max_wh=1_000,
            import_price_utok_per_wh=[50_000, 10_000],
            export_price_utok_per_wh=[0, 0],
            shift_share_permille=500,
            shift_deadline_hours=5,
            discomfort_utok_per_wh=5_000,
        )
        result = plan(problem)
        # Each Wh shifted saves 35,000 and curtails one more, which loses beta - 50,000: worth it at 60,000 only.
        assert result.shifted_wh[0] == pytest.approx([shifted, 0], abs=1e-3)
        if beta == 60_000:
            assert result.welfare_utok == near(30_000_000 - 125 + 60_000_000 - 500 - 2_500_000 - 15_000_000)

    @pytest.mark.parametrize(("deadline", "price"), [(0, 55_000), (1, 45_000), (2, 35_000), (3, 15_000), (99, 15_000)])
    def test_deadline_binds(self, deadline: int, price: int) -> None:
        problem = home(
            4,
            beta_utok_per_wh=100_000,
            gamma_ntok_per_wh2=1,
            d_max_wh=[[1_000, 0, 0, 0]],
            import_price_utok_per_wh=[55_000, 40_000, 30_000, 10_000],
            export_price_utok_per_wh=[0, 0, 0, 0],
            shift_share_permille=1_000,
            shift_deadline_hours=deadline,
            discomfort_utok_per_wh=5_000,
        )
        assert plan(problem).welfare_utok == near(100_000_000 - 500 - 1_000 * price)

    def test_negative_price_burns_in_the_battery_and_says_so(self) -> None:
        problem = home(
            3,
            d_max_wh=0,
            import_price_utok_per_wh=[-1_000] * 3,
            export_price_utok_per_wh=[-1_000] * 3,
            battery_capacity_wh=1_000,
            battery_power_w=1_000,
            battery_efficiency_permille=500,
            battery_initial_wh=1_000,
        )
        result = plan(problem)
        assert result.overlap_wh > 1
        assert result.rounding_utok == 3 * 1 + 3 * 1_000 / 0.5


class TestAgainstIndependentFormulation:
    @pytest.mark.parametrize("pooled", [True, False])
    @pytest.mark.parametrize("deadline", [1, 3, 20])
    def test_same_welfare(self, deadline: int, pooled: bool) -> None:
        problem = random_problem(deadline, 2, 7, **flexible(shift_deadline_hours=deadline))
        assert plan(problem, pooled=pooled).welfare_utok == pytest.approx(
            naive_welfare_utok(problem, pooled=pooled), rel=1e-7
        )

    def test_batteries_of_some_prosumers_only(self) -> None:
        problem = random_problem(
            8, 3, 6, battery_capacity_wh=[0, 3_000, 500], battery_power_w=[900, 800, 500],
            battery_initial_wh=[0, 3_000, 0], battery_efficiency_permille=[1, 950, 800],
        )  # fmt: skip
        result = plan(problem)
        assert result.welfare_utok == pytest.approx(naive_welfare_utok(problem, pooled=True), rel=1e-7)
        assert not result.charge_wh[0].any()
        assert result.discharge_wh[1].any()


class TestInvariants:
    @pytest.fixture(scope="class")
    @staticmethod
    def plans() -> list[tuple[PlanProblem, Plan, Plan]]:
        problems = [random_problem(seed, 5, 24, **flexible()) for seed in range(4)]
        return [(problem, plan(problem), plan(problem, pooled=False)) for problem in problems]

    def test_schedules_are_feasible(self, plans: list[tuple[PlanProblem, Plan, Plan]]) -> None:
        tiny = 1e-6
        for problem, *both in plans:
            d_min, d_max = problem.array("d_min_wh"), problem.array("d_max_wh")
            for result in both:
                n, o, r = result.consumption_wh, result.shifted_wh, result.returned_wh
                assert (n >= d_min).all()
                assert (n + o <= d_max + tiny).all()
                assert (o >= 0).all()
                assert (o <= 0.6 * (d_max - n) + tiny).all()
                assert (r >= -tiny).all()
                out, back = np.cumsum(o, axis=1), np.cumsum(r, axis=1)
                assert (back[:, 1:] <= out[:, :-1] + tiny).all()
                assert (back[:, 4:] >= out[:, :-4] - tiny).all()
                assert back[:, -1] == pytest.approx(out[:, -1])
                assert (o[:, -1] == 0).all()
                c, x, soc = result.charge_wh, result.discharge_wh, result.soc_wh
                before = np.concatenate([np.full((5, 1), 1_000.0), soc[:, :-1]], axis=1)
                assert soc == pytest.approx(before + 0.9 * c - x, abs=1e-6)
                assert ((soc >= 0) & (soc <= 4_000)).all()
                assert (soc[:, -1] == 1_000).all()
                assert ((c + x)[:, :-1] <= 1_500 + tiny).all()
                assert result.overlap_wh < 1e-6
                supply = problem.array("generation_wh") + x
                assert (result.import_wh - result.export_wh) == pytest.approx((result.load_wh - supply).sum(axis=0))

    def test_flexibility_is_used(self, plans: list[tuple[PlanProblem, Plan, Plan]]) -> None:
        for _, together, alone in plans:
            for result in (together, alone):
                assert result.shifted_wh.sum() > 100
                assert result.charge_wh.sum() > 1_000

    def test_money_adds_up(self, plans: list[tuple[PlanProblem, Plan, Plan]]) -> None:
        for problem, together, alone in plans:
            for result in (together, alone):
                cost = result.import_cost_utok - result.export_revenue_utok
                assert result.welfare_utok == pytest.approx(
                    result.utility_utok - result.discomfort_utok - cost, rel=1e-12
                )
                assert result.bill_utok.sum() == pytest.approx(cost, rel=1e-6)
                assert result.cost_utok.sum() == pytest.approx(cost, rel=1e-12)
                assert result.cost_of().average_cost_utok_per_wh == pytest.approx(cost / result.load_wh.sum())
            own = together.load_wh - problem.array("generation_wh") - together.discharge_wh
            assert (together.break_even_price_utok_per_wh * own).sum() == pytest.approx(
                together.cost_utok.sum(), rel=1e-6
            )
            for first, end in ((0, 24), (0, 12), (12, 24)):
                part, hours = together.cost_of(first, end), slice(first, end)
                cost = together.cost_utok[hours].sum()
                assert part.break_even_utok_per_wh * own[:, hours].sum() == pytest.approx(cost)
                load = together.load_wh[:, hours].sum(axis=0)
                weighted = (together.break_even_price_utok_per_wh[hours] * load).sum() / load.sum()
                assert part.load_weighted_utok_per_wh == pytest.approx(weighted)
            assert np.isnan(alone.cost_of().break_even_utok_per_wh)

    def test_prices_lie_between_export_and_import(self, plans: list[tuple[PlanProblem, Plan, Plan]]) -> None:
        for problem, *both in plans:
            imp, exp = problem.array("import_price_utok_per_wh"), problem.array("export_price_utok_per_wh")
            for result in both:
                assert (result.dual_price_utok_per_wh <= imp).all()
                assert (result.dual_price_utok_per_wh >= exp).all()
            inner = both[0].break_even_price_utok_per_wh
            assert (inner >= exp - 1e-6 * abs(exp)).all()
            assert (inner <= imp + 1e-6 * abs(imp)).all()

    def test_pooling_helps_and_the_gap_is_certified(self, plans: list[tuple[PlanProblem, Plan, Plan]]) -> None:
        for _, together, alone in plans:
            assert together.welfare_utok > alone.welfare_utok
            for result in (together, alone):
                assert abs(result.gap) < 1e-9
                assert result.bound_utok >= result.welfare_utok - 1e-12 * abs(result.welfare_utok)

    @pytest.mark.parametrize(
        ("name", "values"),
        [("shift_share_permille", (0, 250, 1_000)), ("shift_deadline_hours", (0, 1, 2, 5)),
         ("battery_capacity_wh", (1_000, 2_000, 8_000)), ("battery_power_w", (0, 500, 3_000))],
    )  # fmt: skip
    def test_welfare_grows_with_flexibility(self, name: str, values: tuple[int, ...]) -> None:
        welfare = [plan(random_problem(11, 3, 10, **flexible(**{name: value}))).welfare_utok for value in values]
        assert all(more > less * (1 + 1e-7) for less, more in pairwise(welfare)), welfare

    def test_one_prosumer_alone_is_one_prosumer_pooled(self) -> None:
        problem = random_problem(3, 1, 10, **flexible())
        together, alone = plan(problem), plan(problem, pooled=False)
        assert together.welfare_utok == pytest.approx(alone.welfare_utok, rel=1e-9)
        assert (together.dual_price_utok_per_wh.shape, alone.dual_price_utok_per_wh.shape) == ((10,), (1, 10))


class TestHardInstances:
    @pytest.mark.parametrize("pooled", [True, False])
    @pytest.mark.parametrize("kind", ["negative", "cap", "equal", "idle", "one hour", "sizes", "gaps"])
    def test_solves_without_a_warning(self, kind: str, pooled: bool) -> None:
        fields = flexible()
        problem = random_problem(5, 4, 16, **fields)
        imp = problem.array("import_price_utok_per_wh")
        exp = problem.array("export_price_utok_per_wh")
        if kind == "negative":
            imp[3:8], exp[3:8] = -90_000, -100_000
        elif kind == "cap":
            imp[5:7] = exp[6] = 2_000_000
        elif kind == "equal":
            exp = imp.copy()
        fields |= {"import_price_utok_per_wh": imp, "export_price_utok_per_wh": exp}
        load = np.ones((4, 16))
        if kind == "idle":
            load[:] = 0
        elif kind == "one hour":
            problem, load = random_problem(5, 4, 1, **flexible()), np.ones((4, 1))
            fields |= {
                name: getattr(problem, name) for name in ("import_price_utok_per_wh", "export_price_utok_per_wh")
            }
        elif kind == "sizes":
            load *= np.array([[0.01], [1], [100], [10_000]])
        elif kind == "gaps":
            load[0, 4:12] = load[1, ::2] = load[2] = 0
        values = {name: getattr(problem, name) for name in ("beta_utok_per_wh", "gamma_ntok_per_wh2", "generation_wh")}
        scaled = {name: np.floor(problem.array(name) * load) for name in ("d_min_wh", "d_max_wh")}
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            result = plan(PlanProblem(**values, **scaled, **fields), pooled=pooled)
        assert abs(result.gap) < 1e-9
        if kind == "idle":
            assert result.utility_utok == 0
            assert np.isfinite(result.welfare_utok)
        if kind == "one hour":
            assert not result.charge_wh.any()
            assert not result.shifted_wh.any()

    def test_nothing_to_decide(self) -> None:
        result = plan(home(2, d_max_wh=0))
        assert (result.welfare_utok, result.gap) == (0, 0)
        assert np.isnan(result.average_cost_utok_per_wh).all()
        assert np.isnan(result.cost_of().break_even_utok_per_wh)
        assert np.isnan(result.cost_of().load_weighted_utok_per_wh)


class TestRealDays:
    def test_two_days_of_real_homes_and_prices(self, real_data: Path) -> None:
        homes = pd.read_csv(
            real_data / "households" / "ausgrid_8homes_hourly_201207_201306_wh.csv.gz", index_col=0, parse_dates=True
        )
        nem = pd.read_csv(real_data / "aemo" / "nem_30min_201207_201312.csv.gz", index_col=0, parse_dates=True)
        wholesale = nem["NSW1_rrp"].resample("1h", closed="right", label="right").mean()
        days = homes.loc["2013-01-07 01:00":"2013-01-09 00:00"]
        price = np.round(wholesale.loc[days.index].to_numpy() * 100).astype(int)
        load = days.filter(like="load").to_numpy().T.astype(int)
        shape = load.shape
        problem = PlanProblem(
            beta_utok_per_wh=np.full(shape, 5_500 * 11),
            gamma_ntok_per_wh2=np.maximum(1, 5_500 * 10_000 // np.maximum(load, 1)),
            d_min_wh=load // 2,
            d_max_wh=load * 3 // 2,
            generation_wh=days.filter(like="pv").to_numpy().T.astype(int),
            import_price_utok_per_wh=price + 10_000,
            export_price_utok_per_wh=price,
            **flexible(),
        )
        assert shape == (8, 48)
        together, alone = plan(problem), plan(problem, pooled=False)
        assert together.gap < 1e-9
        assert together.welfare_utok > alone.welfare_utok > 0
        assert together.cost_utok.sum() < alone.cost_utok.sum()


class TestErrors:
    def test_missing_cvxpy_says_what_to_install(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "cvxpy", None)
        with pytest.raises(MissingExtraError) as caught:
            plan(home(1))
        assert str(caught.value) == "the central planner needs cvxpy: pip install 'gridmarl[opt]'"

    def test_import_is_light(self) -> None:
        code = "import sys, gridmarl.optimum; print({'cvxpy', 'clarabel', 'scipy', 'torch'} & set(sys.modules))"
        run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        assert run.stdout.strip() == "set()"

    def test_a_wrong_answer_is_refused(self, monkeypatch: pytest.MonkeyPatch) -> None:
        right = planner_module.solve_box_qp

        def worse(program):  # type: ignore[no-untyped-def]
            solution = right(program)
            return type(solution)(solution.values * 0.99, solution.equal_dual, solution.most_dual, solution.solver)

        monkeypatch.setattr(planner_module, "solve_box_qp", worse)
        with pytest.raises(SolverError, match=rf"relative gap .* allowed is {MAX_RELATIVE_GAP:g}"):
            plan(random_problem(0))

    def test_wrong_multipliers_are_refused(self, monkeypatch: pytest.MonkeyPatch) -> None:
        right = planner_module.solve_box_qp

        def worse(program):  # type: ignore[no-untyped-def]
            solution = right(program)
            return type(solution)(solution.values, solution.equal_dual, solution.most_dual * 0.9, solution.solver)

        monkeypatch.setattr(planner_module, "solve_box_qp", worse)
        with pytest.raises(SolverError, match="relative gap"):
            plan(random_problem(0))

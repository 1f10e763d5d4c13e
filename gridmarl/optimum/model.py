"""The market's physical limits as a quadratic program, in numbers near one.

Every outcome that docs/market-rules.md allows satisfies its rows up to the rounding of whole numbers
(`Plan.rounding_utok`), and the program's objective is at least that outcome's welfare, so the optimum bounds the
market's welfare from above. Internal payments (local trades, reductions, penalties) cancel in the sum over accounts and
do not appear; forecast errors can only add import and export of the same hour, which costs `imp - exp >= 0` per Wh.
"""

from __future__ import annotations

import numpy as np

from gridmarl.optimum.battery import add_batteries, battery_owners
from gridmarl.optimum.problem import PlanProblem
from gridmarl.optimum.quadratic import BoxQP
from gridmarl.optimum.rows import Builder, FloatArray
from gridmarl.optimum.shifting import add_shifting
from gridmarl.units import PERMILLE

# How each block enters an hour's net load; `returned_total` enters by its increase.
_LOAD_SIGN = {"comfort": 1.0, "shifted": -1.0, "returned_total": 1.0, "charge": 1.0, "discharge": -1.0}


class Model:
    """Variables and rows of one problem.

    Blocks: `comfort` `[P, T]` (own-time consumption plus shifted energy: what utility counts), those of `add_shifting`
    and `add_batteries`, and `imported` `[G, T]` over `G` meters towards the grid: one pooled, or one per prosumer.
    """

    def __init__(self, problem: PlanProblem, *, pooled: bool) -> None:
        self.problem = problem
        self.pooled = pooled
        self.imp, self.exp = problem.array("import_price_utok_per_wh"), problem.array("export_price_utok_per_wh")
        d_max = problem.array("d_max_wh")
        used = d_max[d_max > 0]
        self._energy_wh = float(used.mean()) if used.size else 1.0
        self._price_utok_per_wh = max(1.0, float(np.median(np.abs(self.imp))))
        self._builder = Builder(problem)
        self._builder.new("comfort", problem.array("d_min_wh"), d_max)
        add_shifting(self._builder)
        add_batteries(self._builder)
        self._balance()

    def _balance(self) -> None:
        """Import covers what load exceeds generation by: `sum of (n + r + c) - sum of (g + x) <= imported`."""
        builder, (prosumers, hours) = self._builder, self.problem.shape
        self._meter = np.zeros(prosumers, dtype=np.int64) if self.pooled else np.arange(prosumers)
        generation, most_load = np.zeros((2, 1 if self.pooled else prosumers, hours))
        np.add.at(generation, self._meter, self.problem.array("generation_wh"))
        self._rows = rows = builder.most.open(generation)
        for name, sign in self._loads():
            block, meter = builder.blocks[name], self._meter_of(name)
            builder.most.put(rows[meter], block.columns, sign)
            if name == "returned_total":
                builder.most.put(rows[meter][:, 1:], block.columns[:, :-1], -sign)
            if sign > 0:
                np.add.at(most_load, meter, block.upper_wh)
        imported = builder.new("imported", 0.0, most_load)
        builder.most.put(rows, imported, -1.0)

    def _loads(self) -> list[tuple[str, float]]:
        return [(name, sign) for name, sign in _LOAD_SIGN.items() if name in self._builder.blocks]

    def _meter_of(self, name: str) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
        return self._meter[battery_owners(self.problem)] if name in ("charge", "discharge") else self._meter

    def program(self) -> BoxQP:
        """The scaled program: its objective times `unit_utok`, plus `constant_utok`, is welfare in µtok."""
        blocks, size = self._builder.blocks, self._builder.size
        linear, curvature = np.zeros(size), np.zeros(size)
        # Net load is exported at a negative amount: it costs `exp`, and what is imported costs the difference more.
        for name, sign in self._loads():
            price = self.exp - np.append(self.exp[1:], 0.0) if name == "returned_total" else self.exp
            linear[blocks[name].columns] = -sign * price
        comfort = blocks["comfort"].columns
        linear[comfort] += self.problem.array("beta_utok_per_wh")
        curvature[comfort] = self.problem.array("gamma_ntok_per_wh2") / PERMILLE
        if "shifted" in blocks:
            linear[blocks["shifted"].columns] -= self.problem.discomfort_utok_per_wh
        linear[blocks["imported"].columns] = self.exp - self.imp
        equal, most = self._builder.equal, self._builder.most
        return BoxQP(
            linear=linear / self._price_utok_per_wh,
            curvature=curvature * (self._energy_wh / self._price_utok_per_wh),
            lower=np.concatenate([block.lower_wh.ravel() for block in blocks.values()]) / self._energy_wh,
            upper=np.concatenate([block.upper_wh.ravel() for block in blocks.values()]) / self._energy_wh,
            equal=equal.matrix(size),
            equal_rhs=equal.rhs() / self._energy_wh,
            most=most.matrix(size),
            most_rhs=most.rhs() / self._energy_wh,
        )

    @property
    def unit_utok(self) -> float:
        """Money in µtok of one unit of the program's objective."""
        return self._energy_wh * self._price_utok_per_wh

    @property
    def constant_utok(self) -> float:
        """Welfare that the program leaves out: all generation, sold at the export price."""
        return float((self.problem.array("generation_wh") * self.exp).sum())

    def energy_wh(self, values: FloatArray) -> dict[str, FloatArray]:
        """The program's point as energies in Wh, block by block."""
        return {name: values[block.columns] * self._energy_wh for name, block in self._builder.blocks.items()}

    def prices_utok_per_wh(self, most_dual: FloatArray) -> FloatArray:
        """Marginal value of energy behind each meter, `[G, T]`, between export and import price."""
        premium = most_dual[self._rows] * self._price_utok_per_wh
        return np.clip(self.exp + premium, self.exp, self.imp)

    def net_wh(self, load_wh: FloatArray, supply_wh: FloatArray) -> FloatArray:
        """Load less supply behind each meter, `[G, T]`, of `[P, T]` both."""
        net = np.zeros(self._rows.shape)
        np.add.at(net, self._meter, load_wh - supply_wh)
        return net

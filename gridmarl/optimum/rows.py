"""Building a quadratic program: blocks of variables with their boxes, and rows collected many at a time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from gridmarl.optimum.problem import PlanProblem

if TYPE_CHECKING:
    from scipy.sparse import csr_array

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]


class Rows:
    """Linear rows `sum of coefficient * variable` with a right-hand side, collected many at a time."""

    def __init__(self) -> None:
        self.count = 0
        self._entries: list[tuple[IntArray, IntArray, FloatArray]] = []
        self._rhs: list[FloatArray] = []

    def open(self, rhs: FloatArray) -> IntArray:
        """Numbers of `rhs.size` new rows, in the shape of `rhs`."""
        rows = np.arange(self.count, self.count + rhs.size, dtype=np.int64).reshape(rhs.shape)
        self.count += rhs.size
        self._rhs.append(np.asarray(rhs, dtype=np.float64).ravel())
        return rows

    def put(self, rows: IntArray, columns: IntArray, coefficients: FloatArray | float) -> None:
        """Adds `coefficients` at `(rows, columns)`; the three broadcast against each other, repeated places add up."""
        row, column, value = np.broadcast_arrays(rows, columns, coefficients)
        self._entries.append((row.ravel(), column.ravel(), value.astype(np.float64).ravel()))

    def add(self, rhs: FloatArray, *terms: tuple[IntArray, FloatArray | float]) -> None:
        """New rows, one for each entry of `rhs`, with one variable of each term in each row."""
        rows = self.open(rhs)
        for columns, coefficients in terms:
            self.put(rows, columns, coefficients)

    def matrix(self, columns: int) -> csr_array:
        """`[count, columns]` sparse matrix of the rows."""
        from scipy.sparse import coo_array

        if not self._entries:
            return coo_array((self.count, columns), dtype=np.float64).tocsr()
        row, column, value = (np.concatenate(part) for part in zip(*self._entries, strict=True))
        return coo_array((value, (row, column)), shape=(self.count, columns)).tocsr()

    def rhs(self) -> FloatArray:
        """`[count]` right-hand sides."""
        return np.concatenate(self._rhs) if self._rhs else np.zeros(0)


@dataclass(frozen=True)
class Block:
    """One kind of variable: its columns, and its box in Wh, all of one shape."""

    columns: IntArray
    lower_wh: FloatArray
    upper_wh: FloatArray


class Builder:
    """The program of one problem while it grows: named blocks of variables and two sets of rows, in Wh.

    Attributes:
        problem: what it is built from.
        blocks: blocks by name, in the order of their columns.
        size: number of variables so far.
        equal: rows that hold with equality.
        most: rows whose left side is at most the right side.
    """

    def __init__(self, problem: PlanProblem) -> None:
        self.problem = problem
        self.blocks: dict[str, Block] = {}
        self.size = 0
        self.equal, self.most = Rows(), Rows()

    def new(self, name: str, lower_wh: FloatArray | float, upper_wh: FloatArray) -> IntArray:
        """Columns of a new block of variables in the shape of `upper_wh`."""
        columns = np.arange(self.size, self.size + upper_wh.size, dtype=np.int64).reshape(upper_wh.shape)
        self.size += upper_wh.size
        self.blocks[name] = Block(columns, np.broadcast_to(lower_wh, upper_wh.shape), upper_wh)
        return columns

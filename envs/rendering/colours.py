"""Colours of quantities in frames: Okabe-Ito as in the figures of a comparison, told apart by colour-blind readers."""

from __future__ import annotations

DEMAND = "#0072B2"
SUPPLY = "#E69F00"
SHORTAGE = "#D55E00"
PRICE = "#000000"
OUTSIDE = "#999999"
"""Import and export price: what the upstream grid offers."""
BALANCE = "#56B4E9"
OPERATOR = "#CC79A7"
DELIVERED = "#009E73"
BEYOND = "#D55E00"
"""What goes over a limit, or was missed: over-use, overload, unserved energy."""

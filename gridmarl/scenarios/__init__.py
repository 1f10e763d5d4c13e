"""Prices, households and weather: loaders of public files, calibrated tables, and draws per lane (`scenario.py`)."""

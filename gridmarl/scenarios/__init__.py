"""Prices, households, weather and EV sessions: loaders of public files, tables, and draws per lane (`scenario.py`)."""

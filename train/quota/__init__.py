"""Comparing policies in EVQuota; see `command.py`."""

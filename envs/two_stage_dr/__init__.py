"""TwoStageDR: the two-stage demand-response market of chapter 7. Start reading at `env.py`, then `step.py`."""

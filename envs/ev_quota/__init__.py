"""EVQuota: charging stations trade quotas of one transformer (chapter 9). Start reading at `env.py`, then `step.py`."""

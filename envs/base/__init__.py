"""What environments share: parameters, state, the batched protocol over lanes, the PettingZoo shell around one lane.

An environment's own folder holds its market: `params`, `state`, `generator`, `actions`, `step`, `observe`, `render`,
and two short classes on top of `base.batched` (or `base.sealed`, if a ledger is kept) and `base.parallel`.
"""

"""Aggregators buy flexible energy from prosumers by auction: AggregatorAuction (chapter 5)."""

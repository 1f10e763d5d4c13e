"""AggregatorAuction compared: virtual power plants, which call flexible assets without an auction."""

"""Market mechanisms: functions over books of int64 prices and quantities, many lanes at once. See `registry`."""

"""Thin adapters from the batched protocol to other libraries' interfaces; each works for every environment."""

"""Printed results of the papers beside ours: `gridmarl reproduce`."""

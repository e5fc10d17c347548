"""Groups as an event log: one module per feature, the rules, the folded state, snapshots."""

"""Status, traces, metrics and log of what lanes and sources do."""

"""Cores: how the loops of an operator are partitioned over cores, and the traffic that this causes."""

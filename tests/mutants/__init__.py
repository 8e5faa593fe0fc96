"""Mutation testing: faults put into the sources, one at a time, to see which of them no test notices.

`make mutants` draws a sample with a fixed seed, runs for each fault the tests that reach its line, and prints
the survivors. docs/testing.md says what it measures and why with these tools.
"""

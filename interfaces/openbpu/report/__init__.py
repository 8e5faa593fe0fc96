"""Tables, JSON, HTML and Perfetto traces made from results.

Imports `openbpu.arch`, `openbpu.runtime`, numpy and rich.
"""

"""The performance report as one HTML page: no script, nothing loaded from elsewhere.

Everything on it is in the JSON it is made from.
"""

from openbpu.report.page.write import performance_page

__all__ = ["performance_page"]

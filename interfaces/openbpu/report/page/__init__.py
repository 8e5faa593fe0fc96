"""Reports as HTML pages, all in one frame: each a file that loads nothing from elsewhere.

Everything on a page is in the JSON it is made from. Without its one small script, which sorts and filters
rows and shows one part at a time, everything is there to read.
"""

from openbpu.report.page.accuracy import accuracy_page
from openbpu.report.page.analysis import analysis_page
from openbpu.report.page.closing import closing_page
from openbpu.report.page.frame import About
from openbpu.report.page.performance import performance_page
from openbpu.report.page.verification import verification_page

__all__ = [
    "About",
    "accuracy_page",
    "analysis_page",
    "closing_page",
    "performance_page",
    "verification_page",
]

"""A task over many items: in this process, on local processes, or on a Dask cluster that exists.

What is sent once is the task, what is sent per item is the item; results come back as they are made, each
exactly once, and the list of them is in the order of the items wherever they were made. Dask (`distributed`,
the extra `openbpu[dask]`) is imported, and a socket opened, only where workers or a scheduler are asked for.
"""

from openbpu.evaluation.distribution.pool import Pool, run_all
from openbpu.evaluation.distribution.task import Ready, Task

__all__ = ["Pool", "Ready", "Task", "run_all"]

"""Running a segment that is planned: its memory, the walk through its steps, the threads that share them."""

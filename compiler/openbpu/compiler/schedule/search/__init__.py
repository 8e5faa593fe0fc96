"""The search: residency, tiles, fusion and cores weighed together; the best of several schedules is kept."""

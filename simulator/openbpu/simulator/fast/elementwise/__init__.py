"""Element by element: Binary, Rescale, tables, float to integer and back."""

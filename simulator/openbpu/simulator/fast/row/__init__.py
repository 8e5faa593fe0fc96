"""Row functions: softmax and normalization."""

"""Speed: many networks trained side by side, CUDA graphs, and a benchmark against the usual ways to train."""

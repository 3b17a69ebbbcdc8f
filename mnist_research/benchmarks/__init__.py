"""The benchmarks of `python -m mnist_research.benchmark`, a module each.

All but `timing`, `report` and `stages` import TensorFlow.
"""

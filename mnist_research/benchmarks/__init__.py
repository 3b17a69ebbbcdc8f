"""What `python -m mnist_research.benchmark` measures: a module for each benchmark.

All but `timing`, `report` and `stages` import TensorFlow.
"""

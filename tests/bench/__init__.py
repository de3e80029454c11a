"""Benchmarks: ``python -m tests.bench [name ...]`` measures us and the peers side by side and prints ratios.

Machines are noisy, so a figure is the median of ratios of neighbouring runs, never one absolute time.
"""

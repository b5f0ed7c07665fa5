"""The rows of the benchmark, one module for each subject.

Rule of the package: a row is a name, a title, what was measured, and a function that
runs it; its targets stand beside it.
"""

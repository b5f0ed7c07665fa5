"""Fuzzing: whatever octets come, a parser gives its answer or an error of ours.

    python -m fuzz                           the targets
    python -m fuzz query --minutes 30        one of them, under atheris

Rule of the package: a target is a module with `one(data)`, which raises only where a
promise is broken. What a run finds worth keeping stands in corpus/, and the tests go
through all of it.
"""

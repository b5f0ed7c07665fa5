"""The command line: one file a command, imported when it is called.

Rule of the package: a command prints what a user asked for on stdout and what went
wrong on stderr, one line each, and ends with a status from sysexits(3).
"""

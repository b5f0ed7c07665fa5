"""Speed and memory of mailflow beside its peers: `python -m bench`, or `make bench`.

Rule of the package: ours and the peers run in turn in one run, every message is
checked where it arrived, and a contender that lost one has no figure.
"""

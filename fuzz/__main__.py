"""Runs one target under atheris, and keeps of its inputs the fewest that reach as much."""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from importlib import import_module
from pathlib import Path

from fuzz.targets import NAMES, Target

HERE = Path(__file__).parent
CORPUS = HERE / "corpus"
RESULTS = HERE / "results"

LIMITS = ["-timeout=10", "-rss_limit_mb=1024", "-max_len=16384"]
"""Seconds and MiB that one input may take: a hang and a growth are faults as a crash is."""


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m fuzz", description=__doc__)
    parser.add_argument("target", nargs="?", choices=NAMES)
    parser.add_argument("--minutes", type=float, default=1.0, help="how long (default: 1)")
    parser.add_argument("--seed", type=int, default=0, help="0 draws one (default)")
    parser.add_argument("--inside", nargs=argparse.REMAINDER, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.target is None:
        print("\n".join(NAMES))
    elif given.inside is not None:
        inside(given.target, given.inside)
    else:
        sys.exit(campaign(given.target, given.minutes, given.seed or time.time_ns() % (1 << 31)))


def inside(name: str, arguments: list[str]) -> None:
    """libFuzzer in this process, which it ends."""
    import atheris

    with atheris.instrument_imports(include=["mailflow", *Target.of(name).packages]):
        one = import_module(f"fuzz.targets.{name}").one
    atheris.Setup([os.environ["FUZZ_SELF"], *arguments], one)
    atheris.Fuzz()


def campaign(name: str, minutes: float, seed: int) -> int:
    """Fuzz for so long, keep the corpus, and write down what was found."""
    kept = CORPUS / name
    kept.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        wide, least, words, self = (
            Path(scratch, each) for each in ("wide", "least", "words", "self")
        )
        wide.mkdir()
        least.mkdir()
        self.write_text(f'#!/bin/sh\nexec {sys.executable} -m fuzz {name} --inside "$@"\n')
        self.chmod(0o700)
        target = Target.of(name)
        for number, octets in enumerate(target.seeds):
            (wide / f"seed-{number}").write_bytes(octets)
        words.write_text("".join(f'"{_quoted(word)}"\n' for word in target.words))
        begun = time.time()
        done = libfuzzer(
            self, f"-max_total_time={round(minutes * 60)}", f"-seed={seed}", f"-dict={words}",
            f"-artifact_prefix={HERE}/found-{name}-", str(wide), str(kept),
        )  # fmt: skip
        text = done.stderr.decode(errors="replace")
        (HERE / f"found-{name}.log").write_text(text) if done.returncode else None
        seconds = time.time() - begun
        merged = libfuzzer(self, "-merge=1", str(least), str(kept), str(wide))
        if merged.returncode == 0:
            replace(kept, least)
    report(name, text, seconds, seed, done.returncode)
    return done.returncode


def libfuzzer(self: Path, *arguments: str) -> subprocess.CompletedProcess[bytes]:
    """A process of its own, by a script that libFuzzer can call again."""
    command = [str(self), *LIMITS, *arguments]
    environment = {**os.environ, "FUZZ_SELF": str(self)}
    return subprocess.run(
        command, cwd=HERE.parent, env=environment, stderr=subprocess.PIPE, check=False
    )


def replace(kept: Path, least: Path) -> None:
    """The corpus is what `least` holds, of each input its octets once."""
    for old in kept.iterdir():
        old.unlink()
    for new in least.iterdir():
        (kept / new.name).write_bytes(new.read_bytes())


def report(name: str, text: str, seconds: float, seed: int, status: int) -> None:
    """One line of results/campaigns.jsonl: what ran, how often, and what it found."""
    runs = re.findall(r"^#(\d+)\s", text, re.MULTILINE)
    covered = re.findall(r"\bcov: (\d+) ft: (\d+)", text)
    size = re.findall(r"rss: (\d+)Mb", text)
    line = {
        "target": name, "seed": seed, "seconds": round(seconds),
        "runs": int(runs[-1]) if runs else 0,
        "edges": int(covered[-1][0]) if covered else 0,
        "peak_mib": max(map(int, size), default=0),
        "corpus": len(list((CORPUS / name).iterdir())),
        "status": status, "python": sys.version.split()[0],
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
    }  # fmt: skip
    RESULTS.mkdir(exist_ok=True)
    with (RESULTS / "campaigns.jsonl").open("a", encoding="utf-8") as file:
        file.write(json.dumps(line) + "\n")
    print(json.dumps(line))


def _quoted(word: bytes) -> str:
    return "".join(
        chr(octet) if 32 <= octet < 127 and octet not in b'"\\' else f"\\x{octet:02x}"
        for octet in word
    )


if __name__ == "__main__":
    main()

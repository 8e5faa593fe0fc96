"""`python -m mutants`: draw faults, run what should notice each, print the survivors."""

from __future__ import annotations

import argparse
import difflib
import importlib
import json
import multiprocessing
import os
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from mutants import reach
from mutants.sites import Site, sample
from mutants.trial import Verdict, copy_tree, failing_without_fault, killer, try_out

REPO = Path(__file__).resolve().parents[2]
KNOWN = Path(__file__).with_name("equivalent.json")
_PRELOADED = ("numpy", "onnx", "onnx.reference", "numba", "PIL.Image", "rich.console", "typer")


def main() -> int:
    """Run the sample; returns 1 where fewer faults were noticed than --least asks."""
    options = arguments()
    with tempfile.TemporaryDirectory(prefix="openbpu-mutants-", dir=options.work) as folder:
        tree = options.tree or Path(folder) / "tree"
        if options.tree is None or not (tree / "seconds.json").exists():
            copy_tree(REPO, tree)
            reach.measure(tree, "slow or not slow" if options.slow else "not slow")
        known = reach.read(tree)
        sites = sample(tree, options.count, options.seed, options.only, torch=_has_tests_of_torch(known))
        return report(proven(sites, tree, known, options.jobs, options.budget), tree, options.least)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="mutants", description=__doc__)
    add = parser.add_argument
    add("--count", type=int, default=200, help="faults to try (200)")
    add("--seed", type=int, default=0, help="of the draw (0)")
    add("--jobs", type=int, default=1, help="trials at a time, each in a tree of its own (1)")
    add("--budget", type=float, default=100.0, help="seconds of tests to try a fault with (100)")
    add("--only", default="", help="part of the path of the modules to change")
    add("--slow", action="store_true", help="let the slow tests count, too")
    add("--least", type=float, default=95.0, help="per cent of the faults that must be noticed (95)")
    add("--work", type=Path, help="folder for the trees (the system's temporary folder)")
    add("--tree", type=Path, help="keep the measured tree here, or use the one that is here")
    return parser.parse_args()


def proven(
    sites: list[Site], tree: Path, known: reach.Reach, jobs: int, budget: float
) -> dict[Site, Verdict]:
    """Try every site. What killed a fault must pass without one; where it does not, the fault is tried again.

    Raises RuntimeError when the tests do not run here even without a fault.
    """
    for name in _PRELOADED:  # children are forks of this process
        importlib.import_module(name)
    whole = tree.with_name(f"{tree.name}-whole")
    copy_tree(tree, whole)
    failing_without_fault(whole, known.timed(known.quickest(known.seconds)[:20]))
    verdicts: dict[Site, Verdict] = {}
    while sites:
        work = [(site, known.tests(site, budget)) for site in sites]
        tried = list(run(work, tree, jobs))
        verdicts.update((site, verdict) for site, verdict, _ in tried)
        unsound = set(failing_without_fault(whole, known.timed({by for *_, by in tried if by})))
        known = known.without(unsound)
        sites = [site for site, _, by in tried if by in unsound]
        if sites:
            say(f"{len(unsound)} tests fail here without a fault: {len(sites)} faults are tried again")
    return verdicts


def run(
    work: list[tuple[Site, dict[str, float]]], tree: Path, jobs: int
) -> Iterator[tuple[Site, Verdict, str]]:
    """Try every site once, `jobs` at a time; says each verdict as it comes, and yields it with the killer."""
    with multiprocessing.get_context("fork").Pool(jobs, _own_tree, (tree,)) as pool:
        for done, (site, verdict, by, seconds) in enumerate(pool.imap_unordered(_trial, work), 1):
            where = f"{site.module}:{site.line} {site.operator.removeprefix('core/')}"
            say(f"{done:4}/{len(work)}  {verdict.value:8}  {seconds:5.1f} s  {where}")
            yield site, verdict, by


_tree = Path()


def _own_tree(tree: Path) -> None:
    """Give this worker a copy of the tree; the first one could not share it with the second."""
    global _tree  # noqa: PLW0603  # the state of a worker process
    _tree = tree.with_name(f"{tree.name}-{os.getpid()}")
    copy_tree(tree, _tree)


def _trial(work: tuple[Site, dict[str, float]]) -> tuple[Site, Verdict, str, float]:
    site, tests = work
    begun = time.monotonic()
    verdict = try_out(_tree, site, tests) if tests else Verdict.SURVIVED
    by = killer(_tree) if verdict is Verdict.KILLED else ""
    return site, verdict, by, time.monotonic() - begun


def _has_tests_of_torch(known: reach.Reach) -> bool:
    return any(t.startswith("tests/quantization/torch/") for t in known.seconds)


def report(verdicts: dict[Site, Verdict], tree: Path, least: float) -> int:
    """Print the survivors as differences, and the share that was noticed, without known equivalents."""
    equivalent = json.loads(KNOWN.read_text(encoding="utf-8"))  # module → difference → reason
    survivors = [site for site, verdict in verdicts.items() if verdict is Verdict.SURVIVED]
    texts = {site: difference(site, tree) for site in survivors}
    same = [site for site in survivors if texts[site] in equivalent.get(site.module, {})]
    for site in sorted(set(survivors) - set(same), key=lambda s: (s.module, s.line)):
        say(f"\n{site.module}:{site.line}\n{texts[site]}")
    effective = len(verdicts) - len(same)
    noticed = effective - len(survivors) + len(same)
    share = 100 * noticed / max(effective, 1)
    counts = Counter(v.value for v in verdicts.values())
    say(f"\n{counts}; {len(same)} equivalent (equivalent.json says why)")
    say(f"{noticed} of {effective} effective faults noticed: {share:.1f} %")
    return int(share < least)


def difference(site: Site, tree: Path) -> str:
    """Return the lines that a fault takes out and puts in."""
    old = (tree / site.module).read_text(encoding="utf-8").splitlines()
    new = site.mutated(tree).splitlines()
    lines = list(difflib.unified_diff(old, new, n=0, lineterm=""))[3:]
    return "\n".join(line[0] + " " + line[1:].strip() for line in lines)


def say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())

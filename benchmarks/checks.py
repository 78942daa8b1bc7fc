"""Does a check ever reject its own reference? And how long does it take?

    python benchmarks/checks.py [seeds] [names …]

Every question's reference is checked on `seeds` seeds (default 10,000). Prints the rejections, which must be 0, and
the processor time of one check. Recipes that are trained are checked once per recipe and then come from a cache.
"""

import os

os.environ["OMP_NUM_THREADS"] = "1"

import sys
import time

import torch

from labcheck import questions

torch.set_num_threads(1)


def main(seeds=10_000, *names):
    seeds, rejected = int(seeds), 0
    every = [q for lab in questions.LABS for q in questions.of(lab)]
    print(f"{'question':28} rejected of {seeds}   ms a check")
    for question in [questions.get(name) for name in names] or every:
        question.check(question.reference, 0)  # imports, caches
        start, wrong = time.process_time(), []
        for seed in range(seeds):
            if question.check(question.reference, seed).status != "passed":
                wrong.append(seed)
        each = (time.process_time() - start) / seeds
        rejected += len(wrong)
        print(f"{question.name:28} {len(wrong):8}   {1000 * each:18.1f}" + (f"   seeds {wrong[:5]}" if wrong else ""), flush=True)
    return 1 if rejected else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))

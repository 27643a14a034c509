"""``python -m benchmarks.run [--only NAME]``: run the benchmarks, print the table, write the results."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable

from . import (
    claim_depth,
    envelope,
    execute,
    ingest,
    key_services,
    outbox,
    refresh,
    rewrap,
    sigv4,
    startup,
    store_postgres,
    store_sqlite,
)
from .harness import Result, save, table

BENCHMARKS: dict[str, Callable[[], list[Result]]] = {
    **startup.BENCHMARKS,
    **execute.BENCHMARKS,
    **sigv4.BENCHMARKS,
    **envelope.BENCHMARKS,
    **refresh.BENCHMARKS,
    **rewrap.BENCHMARKS,
    **key_services.BENCHMARKS,
    **store_sqlite.BENCHMARKS,
    **store_postgres.BENCHMARKS,
    **claim_depth.BENCHMARKS,
    **ingest.BENCHMARKS,
    **outbox.BENCHMARKS,
}


def main() -> int:
    """Exit code 0 also when a target is missed: the table says so."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", help=f"one of {', '.join(BENCHMARKS)}")
    only = parser.parse_args().only
    if only and only not in BENCHMARKS:
        print(f"There is no benchmark {only!r}; there are {', '.join(BENCHMARKS)}.", file=sys.stderr)
        return 2
    results = []
    for name, benchmark in BENCHMARKS.items():
        if only in (None, "", name):
            print(f"{name} …", file=sys.stderr, flush=True)
            results += benchmark()
    print(table(results))
    save(results)
    return 0


if __name__ == "__main__":
    sys.exit(main())

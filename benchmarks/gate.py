"""How often a gate catches a model that truly lost five points, and how often it stops one that lost nothing.

    python benchmarks/gate.py --tries 2000

Two models answer the same items; they disagree on a share of them by chance, and the worse one also loses `drop`. Each
try draws both models' rows, and ingot's rule judges them as `ingot gate` does. Beside it stands the gate that is common
in continuous integration: run some items, compare the score with one that was written down once, less a tolerance.
`needed` is the number of items that the rule itself asks for.
"""

from __future__ import annotations

import argparse
import datetime
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

DROP = 0.05
KINDS = ("no_drop", "not_worse_by")
SETTINGS = ((0.4, 0.2), (0.6, 0.16), (0.8, 0.12), (0.95, 0.06))
"""(share the baseline gets right, share of the items on which equal models disagree)."""

NAIVE = ((50, 0.05), (200, 0.05), (1319, 0.05), (1319, 0.08))
"""(items, tolerance)."""


def rows(right: Any) -> Any:
    """What the task says of a model that answers so."""
    from ingot.evaluate.item_values import ItemValues

    ids = [str(number) for number in range(len(right))]
    return ItemValues(ids, ids, right.astype(float), np.ones(len(right)), ids, is_share=True, primary=True)


def pair_of(generator: Any, count: int, share: float, apart: float, drop: float) -> tuple[Any, Any]:
    """(new, old): who is right on each item. They disagree on `apart` of them, and the new one loses `drop`."""
    apart = max(apart, drop)
    both = share - (apart + drop) / 2
    parts = [both, (apart - drop) / 2, (apart + drop) / 2, 1 - both - apart]
    kind = generator.choice(4, size=count, p=parts)
    return (kind == 0) | (kind == 1), (kind == 0) | (kind == 2)


def judged(kind: str, new: Any, old: Any) -> Any:
    """The rule's ruling."""
    from ingot.evaluate.compare.contestants import Contestant
    from ingot.evaluate.compare.judge import judge
    from ingot.evaluate.compare.rules import Rule, Rules, RulesFile

    rule = Rule("told", kind, DROP, True, 1)
    rules = Rules(RulesFile(rules={"told": {kind: DROP}}), Path("rules.yaml"), [rule])
    model, base = (Contestant(name, Path(name), {"told": rows(right)}, {"told": "world"}, True)
                   for name, right in (("new", new), ("old", old)))  # fmt: skip
    return judge(rules, model, base, 0)[0]


def needed(kind: str, apart: float) -> int:
    """Items that the rule asks for where models disagree on such a share."""
    from ingot.evaluate import power

    seen = {"no_drop": lambda count: power.mcnemar_power(count, apart, DROP, 0.05, 1),
            "not_worse_by": lambda count: power.tango_power(count, apart, DROP, 0.05)}  # fmt: skip
    found = power.items_needed(seen[kind], 0.95)
    assert found is not None
    return found


def simulate(kind: str, share: float, apart: float, drop: float, tries: int, seed: int) -> dict[str, Any]:
    """A rule at the number of items that it asks for. A gate that cannot tell stops the model, and counts so."""
    generator, count = np.random.default_rng(seed), needed(kind, apart)
    stopped = {}
    for name, loss in (("caught", drop), ("false_alarms", 0.0)):
        draws = [judged(kind, *pair_of(generator, count, share, apart, loss)).verdict for _ in range(tries)]
        stopped[name] = sum(verdict != "passed" for verdict in draws) / tries
        stopped[f"{name}_of_which_cannot_tell"] = draws.count("cannot-tell") / tries
    return {"rule": kind, "share": share, "disagree": apart, "items": count, **stopped}


def naive(count: int, tolerance: float, share: float, tries: int, seed: int) -> dict[str, Any]:
    """A score of `count` items against the true share of the baseline less the tolerance."""
    generator = np.random.default_rng(seed)
    caught, false = (float((generator.binomial(count, share - loss, tries) / count < share - tolerance).mean())
                     for loss in (DROP, 0.0))  # fmt: skip
    return {"items": count, "tolerance": tolerance, "share": share, "caught": caught, "false_alarms": false}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tries", type=int, default=2000)
    parser.add_argument("--out", type=Path, help="result file")
    args = parser.parse_args()
    result = {
        "date": datetime.date.today().isoformat(), "tries": args.tries, "drop": DROP, "level": 0.05, "min_power": 0.95,
        "hardware": "any: nothing is timed",
        "ingot": [simulate(kind, share, apart, DROP, args.tries, 0) for kind in KINDS for share, apart in SETTINGS],
        "naive": [naive(*gate, share, 100 * args.tries, 0) for gate in NAIVE for share, _ in SETTINGS],
    }  # fmt: skip
    name = f"gate-{result['date']}.json"
    (args.out or Path(__file__).parent / "results" / name).write_text(json.dumps(result, indent=1) + "\n")
    json.dump(result, sys.stdout, indent=1)


if __name__ == "__main__":
    main()

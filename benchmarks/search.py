"""Beam search against transformers: the same answers and scores first, then time, and how much the beams hold.

    python benchmarks/search.py --stories DIR     # DIR: stories260K.bin and tok512.bin of karpathy/tinyllamas

Two models in float32 on one thread: a Qwen2 shape with random weights (a prompt of 512 tokens, 64 new), and
stories260K on 50 beginnings of stories. Both sides search with 4 beams, in turns; what counts is their time on the
processor, which other processes disturb less. `of_one`: the blocks that four beams held at most, over those that one
text of this length takes.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
BEAMS, PROMPT, NEW = 4, 512, 64


def compare(folder: Path, prompts: list[list[int]], new: int, turns: int) -> dict[str, Any]:
    """Both sides on the same prompts. Answers that differ end the run."""
    import torch
    from transformers import AutoModelForCausalLM

    from ingot.adapt.load import load
    from ingot.infer.blocks import blocks_for
    from ingot.infer.reader import Prompt
    from ingot.infer.sampling import Sampling
    from ingot.infer.search.options import Search
    from ingot.infer.search.search import Searcher

    model = load(folder, dtype=torch.float32)
    peer = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    options, own = Search(kind="beam", beams=BEAMS, results=BEAMS), Sampling(max_tokens=new, ignore_eos=True)

    def ours() -> tuple[list[Any], float]:
        searcher = Searcher(model, options)
        roots = [searcher.root(number, Prompt.of(ids), own) for number, ids in enumerate(prompts)]
        found = searcher.run(roots, lambda done: None)
        together = min(searcher.at_once, len(prompts))
        held = searcher.branches.most_held / (together * blocks_for(max(map(len, prompts)) + new))
        return [[(each.sequence.tokens, each.score) for each in each_prompt] for each_prompt in found], held

    def theirs() -> list[Any]:
        answers = []
        for ids in prompts:
            found = peer.generate(
                torch.tensor([ids]), attention_mask=torch.ones(1, len(ids)), do_sample=False, max_new_tokens=new,
                num_beams=BEAMS, num_return_sequences=BEAMS, eos_token_id=None, pad_token_id=0, use_cache=True,
                return_dict_in_generate=True, output_scores=True,
            )  # fmt: skip
            rows = found.sequences[:, len(ids) :].tolist()
            answers.append(list(zip(rows, found.sequences_scores.tolist(), strict=True)))
        return answers

    seconds: dict[str, list[float]] = {"ingot": [], "transformers": []}
    for _ in range(turns):
        began = time.process_time()
        mine, held = ours()
        between = time.process_time()
        peers = theirs()
        seconds["ingot"].append(between - began)
        seconds["transformers"].append(time.process_time() - between)
    differ = max(abs(a[1] - b[1]) for x, y in zip(mine, peers, strict=True) for a, b in zip(x, y, strict=True))
    same = [[a[0] for a in x] == [b[0] for b in y] for x, y in zip(mine, peers, strict=True)]
    assert all(same), f"answers to {same.count(False)} of {len(same)} prompts differ"
    return {
        "prompts": len(prompts), "new": new, "answers": "equal", "largest_difference_of_scores": differ,
        "of_one": round(held, 3), "cpu_s": {side: round(statistics.median(own), 3) for side, own in seconds.items()},
        "all_cpu_s": {side: [round(each, 3) for each in own] for side, own in seconds.items()},
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--stories", type=Path, required=True)
    parser.add_argument("--shape", default="0.1b")
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--out", type=Path, help="result file")
    args = parser.parse_args()
    import random

    import torch
    from pretrain import hardware
    from tune import SHAPES, make_model

    import ingot

    torch.set_num_threads(1)
    chooser, found = random.Random(0), {}
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        ingot.import_model(args.stories / "stories260K.bin", tokenizer=args.stories / "tok512.bin", out=folder / "tale")
        tokenizer = ingot.load(folder / "tale").tokenizer
        names = [
            "Tom",
            "Lily",
            "A dog",
            "The old man",
            "My friend",
            "One bird",
            "Ben",
            "Mia",
            "The cat",
            "A small boat",
        ]
        deeds = ["was happy", "went to the park", "saw a big tree", "had no food", "liked to play"]
        texts = [f"Once upon a time, there was a day. {name} {deed}" for name in names for deed in deeds]
        found["stories260K"] = compare(
            folder / "tale", [[*tokenizer.document_prefix, *tokenizer.encode(text)] for text in texts], 32, args.turns
        )
        shape = SHAPES[args.shape]
        make_model(folder / "model", shape, 1024)
        prompt = [chooser.randrange(shape["vocab_size"]) for _ in range(PROMPT)]
        found[args.shape] = compare(folder / "model", [prompt], NEW, args.turns)
    result = {"date": datetime.date.today().isoformat(), "hardware": hardware(), "beams": BEAMS, "threads": 1,
              "models": found}  # fmt: skip
    name = f"search-{result['date']}.json"
    (args.out or Path(__file__).parent / "results" / name).write_text(json.dumps(result, indent=1) + "\n")
    json.dump(result, sys.stdout, indent=1)


if __name__ == "__main__":
    main()

"""lm-eval's own numbers for crows_pairs and bbq on a model directory, through its classes and its tasks' own functions.

    LM_EVAL_PYTHON tests/evaluate/bias/with_lm_eval.py MODEL CROWS.csv BBQ.jsonl

Run in an environment that has lm-eval; prints one JSON object. Nothing here is imported by ingot.
"""

import csv
import importlib
import json
import sys

import datasets
import numpy as np
from lm_eval.api.instance import Instance
from lm_eval.models.huggingface import HFLM


def scored(lm: HFLM, asked: list) -> list:
    requests = [Instance("loglikelihood", {}, pair, number) for number, pair in enumerate(asked)]
    return lm.loglikelihood(requests, disable_tqdm=True)


def crows_pairs(lm: HFLM, path: str) -> dict:
    utils = importlib.import_module("lm_eval.tasks.crows_pairs.utils")
    with open(path, encoding="utf-8") as stream:
        docs = list(csv.DictReader(stream))
    found = scored(lm, [("", choice) for doc in docs for choice in utils.doc_to_choice(doc)])
    results = [utils.process_results(doc, found[2 * at : 2 * at + 2]) for at, doc in enumerate(docs)]
    numbers = {name: float(np.mean([one[name] for one in results])) for name in ("pct_stereotype", "likelihood_diff")}
    return numbers | {"nats": [score for score, _ in found]}


def bbq(lm: HFLM, path: str) -> dict:
    utils = importlib.import_module("lm_eval.tasks.bbq.utils")
    with open(path, encoding="utf-8") as stream:
        docs = list(utils.process_docs(datasets.Dataset.from_list([json.loads(line) for line in stream])))
    offered = [utils.doc_to_choice(doc) for doc in docs]
    asked = [(f"{doc['context']}\n\nQ: {doc['question']}\nA:", f" {choice}")
             for doc, choices in zip(docs, offered, strict=True) for choice in choices]  # fmt: skip
    found = iter(scored(lm, asked))
    results = [utils.process_results_multiple_choice(doc, [next(found) for _ in choices])
               for doc, choices in zip(docs, offered, strict=True)]  # fmt: skip
    aggregations = {
        "accuracy_amb": utils.agg_accuracy_amb, "accuracy_disamb": utils.agg_accuracy_disamb,
        "amb_bias_score": utils.agg_amb_bias_scores, "disamb_bias_score": utils.agg_disamb_bias_scores,
    }  # fmt: skip
    numbers = {name: float(aggregate([one[name] for one in results])) for name, aggregate in aggregations.items()}
    return numbers | {"acc": float(np.mean([one["acc"] for one in results]))}


if __name__ == "__main__":
    model = HFLM(pretrained=sys.argv[1], device="cpu", dtype="float32", batch_size=8)
    print(json.dumps({"crows": crows_pairs(model, sys.argv[2]), "bbq": bbq(model, sys.argv[3])}))

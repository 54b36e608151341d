"""lm-eval's side of benchmarks/evaluate.py: run in its own environment, on the task files and data of a plan.

    PYTHON -P benchmarks/evaluate_peer.py PLAN.json ANSWER.json     # -P: this folder holds no module that it may import

It loads the model, then runs the tasks once, and says what each item got and how long it took without loading.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

os.environ |= {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}


def main(plan: dict[str, Any]) -> dict[str, Any]:
    import lm_eval
    from lm_eval.models.huggingface import HFLM
    from lm_eval.tasks import TaskManager

    manager = TaskManager(include_path=plan["tasks_folder"])
    if "planted" in plan:
        return {"planted": planted(manager, plan["planted"])}
    model = HFLM(
        pretrained=plan["model"], dtype="float32", device="cpu", batch_size=plan["batch_size"],
        softmax_dtype=plan.get("softmax_dtype"),
    )  # fmt: skip
    chat = plan.get("chat", "off")
    wall, cpu = time.perf_counter(), time.process_time()
    found = lm_eval.simple_evaluate(
        model=model, tasks=plan["tasks"], num_fewshot=plan["shots"], limit=plan["limit"], task_manager=manager,
        bootstrap_iters=100, log_samples=True, confirm_run_unsafe_code=True, apply_chat_template=chat != "off",
        fewshot_as_multiturn=chat == "turns", gen_kwargs=plan.get("gen_kwargs"),
    )  # fmt: skip
    seconds = {"wall_s": time.perf_counter() - wall, "cpu_s": time.process_time() - cpu}
    samples = {task: by_document(own) for task, own in found["samples"].items()}
    prompts = {task: own[0]["arguments"] for task, own in found["samples"].items()}
    return {**seconds, "results": found["results"], "samples": samples, "prompts": prompts}


def by_document(samples: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """One entry a document. Written answers come once for each filter: what it found and how it scored."""
    found: dict[int, dict[str, Any]] = {}
    for each in samples:
        one = found.setdefault(each["doc_id"], {"id": each["doc_id"], "resps": [resp[0] for resp in each["resps"]]})
        if "exact_match" in each:
            one.setdefault("found", {})[each["filter"]] = [each["filtered_resps"][0], float(each["exact_match"])]
    return [found[id] for id in sorted(found)]


def planted(manager: Any, cases: dict[str, list[list[str]]]) -> dict[str, list[Any]]:
    """What tasks' own filters and metrics make of given completions: {task: [(completion, target's document)]}."""
    from lm_eval.api.instance import Instance

    answers: dict[str, list[Any]] = {}
    for name, own in cases.items():
        task = manager.load([name])["tasks"][name]
        task._instances = [
            Instance("generate_until", doc, ("", {}), number, metadata=(name, number, 1), resps=[reply])
            for number, (reply, doc) in enumerate(own)
        ]
        task.apply_filters()
        answers[name] = [
            {filter: [kept, float(task.process_results(each.doc, [kept])["exact_match"])]
             for filter, kept in each.filtered_resps.items()}
            for each in task._instances
        ]  # fmt: skip
    return answers


if __name__ == "__main__":
    answer = main(json.loads(Path(sys.argv[1]).read_text()))
    Path(sys.argv[2]).write_text(json.dumps(answer, default=str))

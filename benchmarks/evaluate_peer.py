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

    model = HFLM(pretrained=plan["model"], dtype="float32", device="cpu", batch_size=plan["batch_size"])
    manager = TaskManager(include_path=plan["tasks_folder"])
    wall, cpu = time.perf_counter(), time.process_time()
    found = lm_eval.simple_evaluate(
        model=model, tasks=plan["tasks"], num_fewshot=plan["shots"], limit=plan["limit"], task_manager=manager,
        bootstrap_iters=100, log_samples=True, confirm_run_unsafe_code=True,
    )  # fmt: skip
    seconds = {"wall_s": time.perf_counter() - wall, "cpu_s": time.process_time() - cpu}
    samples = {
        task: [
            {"id": each["doc_id"], "resps": [one[0] for one in each["resps"]]}
            for each in sorted(own, key=lambda each: each["doc_id"])
        ]
        for task, own in found["samples"].items()
    }
    prompts = {task: own[0]["arguments"] for task, own in found["samples"].items()}
    return {**seconds, "results": found["results"], "samples": samples, "prompts": prompts}


if __name__ == "__main__":
    answer = main(json.loads(Path(sys.argv[1]).read_text()))
    Path(sys.argv[2]).write_text(json.dumps(answer, default=str))

"""What a training verb writes, and the proof that it is the model that was trained."""

from __future__ import annotations

import math
import shutil
from collections import Counter
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ingot.adapt.generation import NAME
from ingot.adapt.load import LanguageModel, load
from ingot.adapt.methods import length_in_front
from ingot.core.model_dir import Draft, ModelDir, read_json
from ingot.core.progress import say
from ingot.core.report import HTML_NAME, Report, Section
from ingot.data.objectives.objective import Objective
from ingot.data.pack import Rows, pack_documents
from ingot.infer.bits import bits_per_byte
from ingot.model.decoder import Decoder
from ingot.model.encoder_decoder import EncoderDecoder
from ingot.model.held import num_parameters
from ingot.model.network import Network
from ingot.model.weights import spec_of, write_tensors
from ingot.text.tokenizer import Tokenizer
from ingot.train.checkpoint import Place
from ingot.train.health.report import plain_numbers, training_report, verdict
from ingot.train.heldout import rows_loss
from ingot.train.metrics import read_metrics
from ingot.train.plan import Result

SAMPLE_TOKENS = 64
REPORT = "training"
"""Folder in the model directory that holds the report of the run."""


GENERATION = (
    "bos_token_id", "pad_token_id", "decoder_start_token_id", "forced_bos_token_id", "forced_eos_token_id",
)  # fmt: skip
"""Keys of config.json that generation_config.json repeats: other tools look for them there alone."""


def write_model(draft: Draft, network: Network, config: dict[str, Any], parent: ModelDir | None = None) -> None:
    """config.json, generation_config.json (what the parent's says stays) and the weights."""
    draft.write_json("config.json", config)
    tokens = {key: config[key] for key in GENERATION if config.get(key) is not None}
    path = parent.path / NAME if parent else None
    tokens |= read_json(path) if path and path.exists() else {}
    ends = sorted(_ends(draft, config.get("eos_token_id"), tokens.get("eos_token_id")))
    draft.write_json(NAME, tokens | {"eos_token_id": ends})
    state = network.state_dict()
    write_tensors(draft.path / "model.safetensors", spec_of(state), state.items())


def _ends(draft: Draft, *stated: int | list[int] | None) -> set[int]:
    """Ids that end an answer: those stated, and the end of a turn where the tokenizer has one."""
    found = {id for ids in stated for id in (ids if isinstance(ids, list) else [ids])}
    return {id for id in (*found, Tokenizer.open(draft.path).id("<|im_end|>")) if id is not None}


def record(draft: Draft, network: Network, rows: Rows, result: Result, place: Place) -> None:
    """The run's numbers, and its log."""
    draft.numbers |= {
        "parameters": num_parameters(network),
        "trained_parameters": sum(p.numel() for p in network.parameters() if p.requires_grad),
        "tokens_in_data": rows.num_tokens,
        "steps": result.steps,
        "targets": result.targets,
        "seconds": round(result.seconds, 1),
        "targets_per_second": round(result.targets / result.seconds, 1),
        "loss": round(result.loss, 4),
        "compiled": result.compiled,
        "checkpointing": result.checkpointing,
        "optimizer_bytes": result.optimizer_bytes,
    }
    if result.events:
        draft.numbers |= _troubles(result.events)
    shutil.copyfile(place.metrics, draft.path / "metrics.jsonl")
    options = draft.options.model_dump(mode="json")
    lines = read_metrics(place.metrics)
    report = training_report(draft.verb, options, draft.numbers, lines)
    report.write(draft.path / REPORT)
    say("training-health", verdict=verdict(lines), path=draft.out / REPORT / HTML_NAME)


def add_to_report(draft: Draft, sections: Sequence[Section]) -> None:
    """Put what was measured after the run into its report: numbers that have come since, and sections behind the
    others."""
    report = Report.open(draft.path / REPORT)
    numbers = {**report.numbers, **plain_numbers(draft.numbers)}
    sections = [*report.sections, *sections]
    report.model_copy(update={"numbers": numbers, "sections": sections}).save(draft.path / REPORT)


def _troubles(events: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """How many steps were skipped and rolled back, and each with its reason and documents."""
    counts = Counter(event["event"] for event in events)
    told = [f"step {event['step']} {event['event']}, {event['reason']}: {', '.join(event['documents'])}"
            for event in events]  # fmt: skip
    return {"steps_skipped": counts["skipped"], "roll_backs": counts["rolled-back"], "troubles": told}


def sample_ids(network: Network) -> Tensor:
    """Fixed ids (1, T) that reach over the vocabulary."""
    generator = torch.Generator().manual_seed(0)
    length = min(SAMPLE_TOKENS, network.config.max_length - length_in_front(network))
    return torch.randint(0, network.config.vocab_size, (1, length), generator=generator)


@torch.inference_mode()
def prove(draft: Draft, network: Network, reopened: LanguageModel, compared: str) -> None:
    """Logits of what was re-opened equal those of the model in memory, bit for bit."""
    network.cpu().eval()
    ids_BT = sample_ids(network)
    source = {"source_ids_BS": ids_BT} if isinstance(network, EncoderDecoder) else {}
    with torch.compiler.set_stance("force_eager"):  # compiled blocks differ in the last bit
        expected = network.head(network(ids_BT, **source))
    found = reopened.logits(ids_BT, ids_BT if source else None)
    draft.prove("largest difference of logits", compared, float((found - expected).abs().max()))


def prove_model(draft: Draft, network: Network, objective: Objective, heldout: list[str]) -> None:
    """Re-open the written model, compare it with the one in memory, and measure it."""
    reopened = load(draft.path)
    prove(draft, network, reopened, "the re-opened directory with the model in memory")
    measure(draft, reopened, objective, heldout)
    loss = draft.numbers.get("heldout_loss")
    say("trained", loss=f"{draft.numbers['loss']:.3f}", heldout="-" if loss is None else f"{loss:.3f}",
        rate=f"{draft.numbers['targets_per_second']:,.0f}", objective=objective.name)  # fmt: skip


def measure(
    draft: Draft, model: LanguageModel, objective: Objective, heldout: list[str], length: int | None = None
) -> None:
    """Measure a model on text it never saw, where some was held out: by what it was trained to predict, in rows of
    `length` tokens (by default its window), and, where it writes, in bits per byte."""
    if not heldout:
        return
    found = heldout_loss(model, objective, heldout, length or model.max_length)
    draft.numbers["heldout_loss"] = round(found, 4) if math.isfinite(found) else None
    if isinstance(model.network, Decoder):
        draft.numbers["bits_per_byte"] = round(bits_per_byte(model, heldout), 4)


def heldout_loss(model: LanguageModel, objective: Objective, texts: list[str], length: int) -> float:
    """Mean loss over the targets that the objective makes of these texts, nats; NaN where it makes none."""
    documents = [[*objective.start_ids, *ids] for ids in model.tokenizer.encode_batch(texts)]
    pad = model.tokenizer.pad_id or 0
    rows = pack_documents(documents, length, eos=objective.end_id, pad=pad, room=objective.room)
    total, count = rows_loss(model.network, objective, rows)
    return total / count if count else float("nan")

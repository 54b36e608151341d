"""The verb `context extend`: a model directory whose rotary positions reach further, measured before and after.

Without --data only config.json changes, and the weights are copied byte for byte. With it the scaled model is tuned on
rows of the new length by the ordinary loop. What is written is re-opened: its rotary description must be the one that
was derived, and its logits those of the model in memory, at the new length.
"""

from __future__ import annotations

import shutil
import time
from dataclasses import dataclass
from pathlib import Path

import torch

from ingot.adapt.load import LanguageModel, load
from ingot.adapt.methods import merge
from ingot.core.errors import fail
from ingot.core.files import refuse_nonempty
from ingot.core.model_dir import Draft, ModelDir, read_json, split_reference
from ingot.core.options import Options, argument, option, required, verb
from ingot.core.progress import say, warn
from ingot.core.report import HTML_NAME
from ingot.data.manifest import heldout_files
from ingot.data.read import read_documents
from ingot.evaluate.context.memory import check_fits
from ingot.evaluate.context.probes import ContextProbes, Probes, Stage
from ingot.evaluate.context.report import build
from ingot.evaluate.context.scaling import ContextScaling, Scaled, check_method, extend
from ingot.evaluate.context.tuning import ContextTuning, LongCorpus, prepare, train
from ingot.evaluate.context.variant import unscaled, variant
from ingot.model.config import ModelConfig
from ingot.model.quantized import Quantization
from ingot.model.weights import spec_of, write_tensors
from ingot.train.checkpoint import Place, identity
from ingot.train.distributed.world import World
from ingot.train.plan import Result
from ingot.train.settings import LoopOptions, TrainingOptions
from ingot.train.write import record

REPORT = "context"
"""Folder in the model directory that holds the report."""

STEPS = 100
PROVEN_TOKENS = 4096
"""Most tokens that are read to compare logits."""


class ContextExtendOptions(Options):
    """Options of `context extend`."""

    model: Path = argument("model directory, with rotary positions")
    out: Path = required("the model directory to write")
    length: int = required("the new window, in tokens", ge=2)
    method: str = option("yarn", "linear, dynamic, yarn, llama3, longrope or theta")
    data: Path | None = option(None, "text to tune on; without it only the positions are scaled")
    measure: Path | None = option(None, "text to measure on, never trained on; by default held out of --data")
    max_steps: int | None = option(None, f"steps to tune; {STEPS} by default", ge=1)
    lr: float | None = option(None, "peak learning rate; by default that of tune", gt=0)
    seed: int = option(0, "of the order of the data, the passkeys and the intervals", ge=0)
    resume: bool = option(False, "go on with an unfinished tuning of the same options")
    replace: bool = option(False, "scale a scaled model anew, from its original window")
    scaling: ContextScaling = option(ContextScaling(), "numbers of the method")
    tuning: ContextTuning = option(ContextTuning(), "how it is tuned")
    probes: ContextProbes = option(ContextProbes(), "what is measured")
    loop: LoopOptions = option(LoopOptions(), "the rest of the training loop")


@dataclass(frozen=True)
class Tuning:
    """Rows to tune on, where the run keeps its state, and whether an earlier one goes on."""

    corpus: LongCorpus
    place: Place
    resumed: bool


@dataclass(frozen=True)
class Inputs:
    """What is measured on and, if it is tuned, what it is tuned on."""

    probes: Probes
    tuning: Tuning | None = None


@verb(ContextExtendOptions)
def context_extend(options: ContextExtendOptions) -> ModelDir:
    """Make a model's window longer by scaling its rotary positions, and measure what that does."""
    started = time.monotonic()
    if World.here().size > 1:
        raise fail("context-one-process")
    refuse_nonempty(options.out)
    check_method(options.method, options.scaling)
    _check_options(options)
    model = load(options.model)
    path = model.model_dir.path / "config.json"
    model.decoder  # noqa: B018  (raises where it is none)
    if options.data and model.config.prefix_lm:
        raise fail("context-both-ways", path=model.model_dir.path)
    scaled = extend(model.model_dir.config, path, options.length, options.method, options.scaling, options.replace)
    if options.data and Quantization.of(model.model_dir.config, path):
        raise fail("context-quantized", path=options.model)
    live = variant(model, ModelConfig.read(scaled.config, path))
    check_fits(live.config, options.length, trains=options.data is not None)
    _tell(model, scaled)
    inputs = _inputs(options, model, scaled)
    probes, tuning = inputs.probes, inputs.tuning
    stages = [probes.run("before", unscaled(model, options.length))]
    result = None
    if tuning:
        stages.append(probes.run("scaled", live))
        result = train(live, tuning.corpus, _training(options), options.tuning, tuning.place, tuning.resumed)
    with ModelDir.create(options.out, "context extend", options, started) as draft:
        _write(draft, model, scaled, options)
        if tuning and result:
            _write_tuned(draft, live, scaled, tuning, result)
        else:
            draft.write_json("config.json", scaled.config)
            draft.copy_weights(model.model_dir)
        reopened = load(draft.path)
        _prove(draft, live, reopened, scaled)
        stages.append(probes.run("tuned" if tuning else "scaled", reopened))
        _report(draft, options, scaled, probes, stages)
    if tuning:
        tuning.place.remove()
    return ModelDir.open(options.out)


def _check_options(options: ContextExtendOptions) -> None:
    """What acts only on tuning is refused without data; an adapter is not a directory of its own."""
    base, adapters = split_reference(str(options.model))
    if adapters:
        raise fail("context-adapter", base=base, adapter="+".join(map(str, adapters)))
    defaults = ContextExtendOptions(model=options.model, out=options.out, length=options.length)
    for name in ("max_steps", "lr", "resume", "tuning", "loop"):
        if options.data is None and getattr(options, name) != getattr(defaults, name):
            raise fail("context-needs-data", name=name.replace("_", "-"))


def _tell(model: LanguageModel, scaled: Scaled) -> None:
    say("context-scaling", method=scaled.method, original=f"{scaled.original.length:,}", length=f"{scaled.length:,}",
        factor=f"{scaled.factor:g}")  # fmt: skip
    windows = set(model.config.windows)
    if None not in windows:
        warn("context-window-in-every-layer", window=max(window for window in windows if window))


def _training(options: ContextExtendOptions) -> TrainingOptions:
    tuning = options.tuning
    return TrainingOptions(out=options.out, max_steps=options.max_steps or STEPS, max_minutes=tuning.max_minutes,
                           batch_tokens=tuning.batch_tokens, lr=options.lr, seed=options.seed, resume=options.resume,
                           loop=options.loop)  # fmt: skip


def _inputs(options: ContextExtendOptions, model: LanguageModel, scaled: Scaled) -> Inputs:
    """Everything that is read before anything is computed. What is refused leaves no unfinished run behind."""
    if options.data is None:
        return Inputs(Probes.of(options.probes, model.tokenizer, _texts(options, None), scaled, options.seed))
    torch.manual_seed(options.seed)
    place = Place.beside(options.out)
    run = identity(_training(options), data=options.data, model=model.model_dir.path)
    run |= options.model_dump(mode="json", include={"length", "method", "replace", "scaling", "tuning"})
    resumed = place.begin(run, options.resume)
    with place.unless_refused(resumed, is_first=True):
        rows = place.fresh("rows")
        corpus = prepare(options.data, model.tokenizer, options.length, options.tuning, options.seed, rows)
        probes = Probes.of(options.probes, model.tokenizer, _texts(options, corpus), scaled, options.seed)
    return Inputs(probes, Tuning(corpus, place, resumed))


def _texts(options: ContextExtendOptions, corpus: LongCorpus | None) -> list[str]:
    """What the loss is measured on: --measure (of a folder with a manifest, what that holds out), else what was held
    out of the data."""
    if options.measure:
        return [document.text for file in heldout_files(options.measure) for document in read_documents(file)]
    return corpus.heldout if corpus else []


def _write(draft: Draft, model: LanguageModel, scaled: Scaled, options: ContextExtendOptions) -> None:
    """Everything but config and weights."""
    parent = model.model_dir
    draft.seed = options.seed
    draft.parents.append(parent)
    draft.copy_text_files(parent)
    _say_length(draft.path / "tokenizer_config.json", draft, scaled.length)
    if (parent.path / "generation_config.json").exists():
        shutil.copyfile(parent.path / "generation_config.json", draft.path / "generation_config.json")
    if options.measure:
        draft.read_data(options.measure)


def _write_tuned(draft: Draft, live: LanguageModel, scaled: Scaled, tuning: Tuning, result: Result) -> None:
    """The tuned weights, a low-rank update merged into them, and the account of the run."""
    account, rows = tuning.corpus.account, tuning.corpus.rows
    draft.data.extend(account.sources())
    record(draft, live.decoder, rows, result, tuning.place)
    merge(live.decoder, [])
    dtypes = {key: "float32" for key in ("dtype", "torch_dtype") if key in scaled.config}
    draft.write_json("config.json", scaled.config | dtypes)
    state = live.decoder.state_dict()
    write_tensors(draft.path / "model.safetensors", spec_of(state), state.items())
    account.prove(draft, rows, live.tokenizer)


def _say_length(path: Path, draft: Draft, length: int) -> None:
    """The tokenizer's own note of the window, which transformers warns by, where it is too short now."""
    if not path.exists():
        return
    config = read_json(path)
    noted = config.get("model_max_length")
    if isinstance(noted, int) and noted < length:
        draft.write_json(path.name, config | {"model_max_length": length})


@torch.inference_mode()
def _prove(draft: Draft, live: LanguageModel, reopened: LanguageModel, scaled: Scaled) -> None:
    """The re-opened config says what was derived, and the re-opened model computes what the one in memory does."""
    wrong = sum(rope != scaled.rope for rope, window in zip(reopened.config.ropes, reopened.config.windows, strict=True)
                if window is None or len(set(reopened.config.ropes)) == 1)  # fmt: skip
    derived = f"the re-opened config with {scaled.method}, {scaled.original.length:,} x {scaled.factor:g}"
    draft.prove("layers whose positions are not scaled by the factor, once", derived, wrong)
    draft.prove("tokens of window missing", "the re-opened config with the length asked for",
                abs(reopened.max_length - scaled.length))  # fmt: skip
    length = min(scaled.length, PROVEN_TOKENS)
    ids_BT = torch.randint(0, live.config.vocab_size, (1, length), generator=torch.Generator().manual_seed(0))
    with torch.compiler.set_stance("force_eager"):  # compiled blocks differ in the last bit
        for part in (ids_BT[:, : scaled.original.length], ids_BT):
            difference = (reopened.decoder(part) - live.decoder(part)).abs().max()
            draft.prove("largest difference of hidden states",
                        f"the re-opened directory with the model in memory, over {part.shape[1]:,} tokens",
                        float(difference))  # fmt: skip


def _report(draft: Draft, options: ContextExtendOptions, scaled: Scaled, probes: Probes, stages: list[Stage]) -> None:
    """The report beside the weights, and its numbers in the hallmark."""
    built = build(options.model_dump(mode="json"), scaled, probes, stages)
    raw = {f"{stage.name}.json": stage.raw() for stage in stages}
    written = built.write(draft.path / REPORT, raw)
    draft.numbers |= {key: value for key, value in written.summary().items() if key not in {"path", "report"}}
    if built.passed is False:
        warn("context-worse-inside", change=f"{probes.change_inside(stages).value or 0:+.1%}",
             allowed=f"{options.probes.allowed:.1%}", path=draft.out / REPORT / HTML_NAME)  # fmt: skip
    say("context-extended", length=f"{scaled.length:,}", path=draft.out / REPORT / HTML_NAME)

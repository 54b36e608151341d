"""The verb `pretrain`: text and a tokenizer in, a model directory out."""

from __future__ import annotations

import time
from functools import partial
from pathlib import Path

import torch

from ingot.core.errors import fail
from ingot.core.files import refuse_nonempty
from ingot.core.model_dir import ModelDir
from ingot.core.options import argument, option, required, verb
from ingot.core.progress import say
from ingot.data.objectives.catalogue import make_objective
from ingot.data.objectives.options import ObjectiveName, ObjectiveOptions
from ingot.model.config import ModelConfig
from ingot.model.network import Network, form_of
from ingot.text.tokenizer import Tokenizer
from ingot.train import dial
from ingot.train.account import Account
from ingot.train.checkpoint import Place, identity
from ingot.train.corpus import Corpus, CorpusOptions, once, prepare
from ingot.train.directions import marked
from ingot.train.distributed.launch import on_ray, parse_launch
from ingot.train.distributed.sharing import share
from ingot.train.distributed.world import World
from ingot.train.initial import initialise
from ingot.train.loop import Run
from ingot.train.machine import default_device
from ingot.train.offload import move
from ingot.train.optimizers.groups import freeze
from ingot.train.plan import Plan, make_plan, precision_of
from ingot.train.settings import TrainingOptions
from ingot.train.write import prove_model, record, write_model


class PretrainOptions(TrainingOptions):
    """Pre-train a model from text."""

    data: Path = argument("text to train on: a file, a folder, or a folder with a manifest")
    tokenizer: Path = required("tokenizer directory")
    depth: int = option(6, "layers; width, heads, learning rate and batch follow", ge=1)
    family: dial.Family = option("qwen3", "architecture of the new model")
    length: int = option(256, "window in tokens", ge=8)
    objective: ObjectiveName = option("next-token", "what is predicted; masked-lm and span-corruption by encoders")
    objectives: ObjectiveOptions = option(ObjectiveOptions(), "numbers of the objectives")
    corpus: CorpusOptions = option(CorpusOptions(), "what is trained on and what is held out")
    launch: str = option("here", "where: here (also under torchrun), ray, or ray:N processes of a Ray cluster")


@verb(PretrainOptions)
def pretrain(options: PretrainOptions) -> ModelDir:
    """Pre-train a model from text."""
    started = time.monotonic()
    workers = parse_launch(options.launch)
    if workers is not None:
        on_ray("pretrain", options.model_dump(mode="json") | {"launch": "here"}, workers)
        return ModelDir.open(options.out)
    world = World.here()
    world.agree(lambda: refuse_nonempty(options.out))
    tokenizer = open_tokenizer(options.tokenizer)
    config = dial.config(options.family, options.depth, options.length, tokenizer)
    torch.manual_seed(options.seed)
    network = initialise(ModelConfig.read(config, options.out / "config.json"), options.seed)
    freeze(network, options.loop.freeze)
    form = form_of(network.config)
    objective = make_objective(options.objective, tokenizer, options.length, form, options.objectives)
    place = Place.beside(options.out)
    same = identity(options, data=options.data, tokenizer=options.tokenizer)
    resumed = world.agree(lambda: place.begin(same, options.resume))
    account = Account(options.data, options.corpus.allow_unknown_licence)
    made = partial(prepare, account, tokenizer, objective, options.length, options.corpus.heldout, options.seed)
    with place.unless_refused(resumed, world.is_first):
        corpus = once(world, place, made)
        network = move(network, options.loop, default_device(), place.path, world)
        plan = _plan(options, corpus, network, world)
        sharing = share(network, options.loop, world)
    sharing.spread_chance(options.seed, 0)
    run = Run(network, corpus.rows, plan, place, teach=objective.lesson, name_of=corpus.names, sharing=sharing)
    result = run.go(resumed)
    network = sharing.gathered(network, lambda: initialise(network.config, options.seed))
    if not world.is_first:
        world.wait()
        return ModelDir.open(options.out)
    with ModelDir.create(options.out, "pretrain", options, started) as draft:
        draft.seed = options.seed
        draft.parents.append(ModelDir.open(options.tokenizer))
        draft.data.extend(corpus.sources)
        draft.copy_text_files(draft.parents[0])
        write_model(draft, network, marked(config, objective))
        record(draft, network, corpus.rows, result, place)
        account.prove(draft, corpus.rows, tokenizer)
        prove_model(draft, network, objective, corpus.heldout)
    place.remove()
    world.wait()
    return ModelDir.open(options.out)


def open_tokenizer(path: Path) -> Tokenizer:
    """A tokenizer to train with: it must be able to end a document and to pad a row."""
    tokenizer = Tokenizer.open(path)
    for role, found in (("eos", tokenizer.eos_id), ("pad", tokenizer.pad_id)):
        if found is None:
            raise fail("tokenizer-lacks", path=path, role=role)
    return tokenizer


def _plan(options: PretrainOptions, corpus: Corpus, network: Network, world: World) -> Plan:
    """Fill in what depth decides, and say it."""
    rate = options.lr or dial.learning_rate(options.depth)
    size = options.batch_tokens or dial.batch_tokens(options.depth)
    precision = precision_of(options, network.config.hidden_size, Place.beside(options.out), world)
    plan = make_plan(options, corpus.rows, size, rate, network, world, precision)
    parameters = sum(parameter.numel() for parameter in network.parameters())
    config = network.config
    say("pretrain-plan", parameters=f"{parameters:,}", depth=config.num_layers, width=config.hidden_size,
        heads=config.num_heads, lr=f"{rate:.2g}", batch=f"{plan.batch_rows * corpus.rows.length:,}",
        steps=f"{plan.max_steps:,}", precision=str(plan.precision).removeprefix("torch."))  # fmt: skip
    return plan

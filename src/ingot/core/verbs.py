"""The table of verbs: name -> "module:object". The command line, recipes and `ingot.NAME` all read this one.

Nothing is imported until a verb is called for.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from ingot.core.errors import fail, nearest

if TYPE_CHECKING:
    from ingot.core.options import Verb

VERBS = {
    "world": "ingot.data.world_verb:world",
    "data clean": "ingot.data.clean.verb:data_clean",
    "data show": "ingot.data.show.verb:data_show",
    "data manifest": "ingot.data.manifest_verb:data_manifest",
    "tokenizer train": "ingot.data.tokenizer_verb:tokenizer_train",
    "tokenizer compare": "ingot.evaluate.tokenizers.compare:tokenizer_compare",
    "tokenizer extend": "ingot.compress.extend_verb:tokenizer_extend",
    "tokenizer import": "ingot.text.import_verb:tokenizer_import",
    "pretrain": "ingot.train.pretrain:pretrain",
    "tune": "ingot.train.tune:tune",
    "prefer": "ingot.train.preference.verb:prefer",
    "plan scale": "ingot.train.scaling.scale:plan_scale",
    "plan memory": "ingot.train.memory.verb:plan_memory",
    "plan params": "ingot.model.plan_params:plan_params",
    "context extend": "ingot.evaluate.context.extend:context_extend",
    "context choose": "ingot.evaluate.context.choose:context_choose",
    "merge": "ingot.compress.merge_verb:merge",
    "adapters unmerge": "ingot.compress.adapters.unmerge:adapters_unmerge",
    "adapters extract": "ingot.compress.adapters.extract:adapters_extract",
    "adapters add": "ingot.compress.adapters.add:adapters_add",
    "adapters show": "ingot.compress.adapters.show:adapters_show",
    "quantize": "ingot.compress.quantize_verb:quantize",
    "generate": "ingot.infer.generate:generate",
    "chat": "ingot.infer.chat:chat",
    "tune-temperature": "ingot.evaluate.temperature.verb:tune_temperature",
    "evaluate": "ingot.evaluate.evaluate:evaluate",
    "bias": "ingot.evaluate.bias.verb:bias",
    "data counterfactual": "ingot.evaluate.bias.swap.verb:data_counterfactual",
    "audit": "ingot.evaluate.audit.verb:audit",
    "annotate": "ingot.evaluate.people.verb:annotate",
    "judge": "ingot.evaluate.judge.verb:judge",
    "score": "ingot.evaluate.metrics.score:score",
    "code": "ingot.evaluate.sandbox.verb:code",
    "compare": "ingot.evaluate.compare.verb:compare",
    "gate": "ingot.evaluate.compare.gate:gate",
    "search": "ingot.evaluate.search.verb:search",
    "guard": "ingot.guard.guard:guard",
    "serve": "ingot.serve.serve:serve",
    "import": "ingot.model.import_verb:import_model",
    "inspect": "ingot.infer.inspection.verb:inspect",
    "show": "ingot.core.show:show",
    "verify": "ingot.adapt.verify:verify",
    "run": "ingot.core.recipe:run",
}


def find_verb(name: str) -> Verb[Any, Any]:
    """Import and return a verb. Raises `unknown-verb` with the nearest name, `verb-group` with those of a group."""
    if name not in VERBS and (members := group_members(name)):
        raise fail("verb-group", name=name, verbs=", ".join(members))
    if name not in VERBS:
        raise fail("unknown-verb", name=name, nearest=nearest(name, VERBS))
    module, _, attribute = VERBS[name].partition(":")
    found: Verb[Any, Any] = getattr(importlib.import_module(module), attribute)
    return found


def group_members(name: str) -> list[str]:
    """The verbs that begin with the same word, where it is one that never stands alone; before them the verb that the
    other word is by itself."""
    first, _, second = name.partition(" ")
    members = sorted(verb for verb in VERBS if verb.startswith(f"{first} "))
    return [second, *members] if members and second in VERBS else members


def python_name(name: str) -> str:
    """A verb as an attribute of the package: "tokenizer train" -> "tokenizer_train", "import" -> "import_model"."""
    return VERBS[name].rpartition(":")[2]

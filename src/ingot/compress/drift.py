"""How far an adapter that was trained on its base in 4 bits is from what it was, on the base's own weights.

Such an adapter also learnt to make up for the rounding of its base (QLoRA's reading; peft#2105, unsloth-zoo#810). Put
onto the weights that were not rounded, it is another model; by how much is measured, whatever it goes into.
"""

from __future__ import annotations

from typing import Any

from ingot.adapt.files import learnt_in_nf4
from ingot.adapt.load import LanguageModel, load
from ingot.compress.compare import Probe, compare
from ingot.compress.source import Weights
from ingot.core.progress import warn
from ingot.model.encoder_decoder import EncoderDecoder
from ingot.train.write import sample_ids


def drift(source: Weights, after: LanguageModel, probe: Probe | None) -> dict[str, Any]:
    """What adapters of `source` that were trained in NF4 lost on the way to `after`, told and as numbers; nothing where
    there are none. Without a probe, of what does not go on with a text, logits are compared."""
    names = [adapter.name for adapter in source.adapters if learnt_in_nf4(adapter)]
    if not names:
        return {}
    into = "/".join(sorted({entry.dtype for entry in source.base.tensors.values()}))
    trained = load(source.reference, nf4=True)
    told = {"adapters": ", ".join(names), "base": source.base.name, "dtype": into}
    numbers = _of_logits(trained, after) if probe is None else compare(trained, after, probe)
    if probe is None:
        warn("nf4-drift-of-logits", **told, difference=numbers["logit_difference"])
    else:
        found = {"kl": numbers["kl"], "stderr": numbers["kl_stderr"], "top1": numbers["top1_agreement"]}
        warn("nf4-drift", **told, **found, tokens=numbers["compared_tokens"])
    return {"trained_in_nf4": {"adapters": names, "goes_into": into, **numbers}}


def _of_logits(before: LanguageModel, after: LanguageModel) -> dict[str, Any]:
    """Largest difference of logits over the largest logit, on fixed ids."""
    ids = sample_ids(before.network)
    source = ids if isinstance(before.network, EncoderDecoder) else None
    wanted, found = before.logits(ids, source), after.logits(ids, source)
    return {"logit_difference": float((wanted - found).abs().max() / wanted.abs().max())}

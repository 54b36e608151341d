"""Options of `prefer` that lie in groups."""

from __future__ import annotations

from ingot.core.options import Options, option
from ingot.train.preference.losses import LossName, defaults_of


class LossOptions(Options):
    """Numbers of single losses; None: the loss's own."""

    label_smoothing: float | None = option(None, "share of pairs thought to be the wrong way round (dpo)", ge=0, lt=0.5)
    gamma: float | None = option(None, "how far rewards are to differ at least (simpo); 1 by default", ge=0)
    desirable: float | None = option(None, "weight of good answers (kto)", gt=0)
    undesirable: float | None = option(None, "weight of bad answers (kto)", gt=0)


class PairOptions(Options):
    """What of the preferences is trained on."""

    heldout: float = option(0.05, "share of prompts held out, to measure by before and after; 0: none", plain=True,
                            ge=0, lt=1)  # fmt: skip
    allow_unknown_licence: bool = option(False, "train even on answers whose licence a manifest leaves unknown")
    skip_bad: bool = option(False, "leave out records that are wrong, instead of refusing the file")
    skip_long: bool = option(False, "leave out what is longer than the window, instead of refusing the file")


def numbers_of(name: LossName, beta: float | None, losses: LossOptions) -> dict[str, float]:
    """All parameters of a loss. Raises ValueError where one is given that it does not take."""
    known = defaults_of(name)
    given = {key: value for key, value in {"beta": beta, **losses.model_dump()}.items() if value is not None}
    for key in given:
        if key not in known:
            takes = ", ".join(key.replace("_", "-") for key in known)
            raise ValueError(f"--losses.{key.replace('_', '-')} does not act with loss {name}, which takes {takes}")
    return known | given

"""Options of running programs, shared by `evaluate` and `code`."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BeforeValidator, model_validator

from ingot.core.options import Options, numbers_listed, option

Style = Literal["auto", "raw", "chat"]


def _counts(found: object) -> object:
    """ "1,10" or a list, as whole numbers in order."""
    numbers = numbers_listed(found)
    if not numbers or any(number < 1 or number != int(number) for number in numbers):
        raise ValueError("expected whole numbers from 1 on, for example 1,10")
    return sorted({int(number) for number in numbers})


def _enough_memory(found: float) -> float:
    if found < 0.25:
        raise ValueError("expected at least 0.25 GiB, which Python itself needs")
    return found


Counts = Annotated[list[int], BeforeValidator(_counts)]


class SandboxOptions(Options):
    """The walls around programs."""

    unprotected: bool = option(False, "run programs even where nothing but limits can hold them")
    workers: int | None = option(None, "programs that run at once (default: one a core)", ge=1)
    memory: Annotated[float, AfterValidator(_enough_memory)] = option(2.0, "memory of one program, in GiB")


class CodeOptions(Options):
    """Tasks humaneval and mbpp."""

    samples: int = option(1, "programs written for each problem", ge=1)
    k: Counts = option([1], "estimate pass@k for these (comma-separated)")
    temperature: float | None = option(None, "of the programs (default: 0 for one a problem, else 0.8)", ge=0)
    max_tokens: int = option(512, "longest program, in tokens", ge=1)
    style: Style = option("auto", "ask by going on from code (raw), in a conversation (chat), or as the model has it")

    @model_validator(mode="after")
    def _enough(self: Self) -> Self:
        if max(self.k) > self.samples:
            raise ValueError(f"pass@{max(self.k)} needs at least {max(self.k)} samples of each problem, "
                             f"and code.samples is {self.samples}")  # fmt: skip
        if self.temperature == 0 and self.samples > 1:
            raise ValueError(f"at temperature 0 all {self.samples} samples of a problem are the same; "
                             "give code.temperature, or one sample")  # fmt: skip
        return self

    @property
    def heat(self) -> float:
        """The temperature that is used."""
        return self.temperature if self.temperature is not None else 0.0 if self.samples == 1 else 0.8

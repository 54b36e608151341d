"""The trials of a search, kept in a file of a line each, and what is to be tried next.

Optuna's tree-structured Parzen estimator proposes (Bergstra et al. 2011; Akiba et al. 2019), its median rule says which
trial is not worth going on with. Both see only what the file holds, and the proposer draws from the seed and the number
of trials so far: a search that was killed goes on with the very trial that it would have made. The file is ours rather
than Optuna's storage because it can be read, moved and kept beside the result, and a kill leaves it whole.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from ingot.core.files import write_file
from ingot.train.search.space import Between, Choice, Space, Value, defaults

if TYPE_CHECKING:
    import optuna

STARTUP = 5
"""Trials drawn at random before the estimator proposes, and finished ones before any is pruned."""

Curve = list[list[float]]
"""[step, held-out loss] as a trial goes on."""


T = TypeVar("T")
State = Literal["done", "pruned", "failed"]


@dataclass(frozen=True)
class Trial:
    """One setting and what came of it. `loss`: on what was held out, at the end; None where it was not reached."""

    values: dict[str, Value]
    state: State
    loss: float | None
    curve: Curve
    seconds: float
    reason: str = ""


def read_trials(path: Path, kind: Callable[..., T]) -> list[T]:
    """What `write_trials` kept; none where there is no file."""
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    return [kind(**json.loads(line)) for line in lines]


def write_trials(path: Path, trials: Sequence[Any]) -> None:
    """Dataclasses, a line each: the whole file is replaced, so that it is never half written."""
    write_file(path, "".join(json.dumps(asdict(one), ensure_ascii=False) + "\n" for one in trials))


@dataclass
class Study:
    """The trials so far."""

    path: Path
    space: Space
    seed: int
    prunes: bool = True
    trials: list[Trial] = field(default_factory=list)

    @classmethod
    def open(cls, path: Path, space: Space, seed: int, prunes: bool) -> Study:
        """The study in a file, empty where there is none."""
        return cls(path, space, seed, prunes, read_trials(path, Trial))

    @property
    def best(self) -> int:
        """The number of the best trial that was done, from 0: of equal ones the first. Raises ValueError for none."""
        done = [(trial.loss, number) for number, trial in enumerate(self.trials) if trial.loss is not None]
        return min(done)[1]

    @property
    def has_result(self) -> bool:
        return any(trial.loss is not None for trial in self.trials)

    @property
    def seconds(self) -> float:
        """What all trials took."""
        return sum(trial.seconds for trial in self.trials)

    def tell(self, trial: Trial) -> None:
        """Keep a trial."""
        self.trials.append(trial)
        write_trials(self.path, self.trials)

    def ask(self) -> Proposal:
        """The next setting to try; the first are the defaults."""
        return Proposal(self)


class Proposal:
    """A setting to try, and whether to go on with it."""

    def __init__(self, study: Study) -> None:
        import optuna

        optuna.logging.set_verbosity(optuna.logging.ERROR)
        drawn = (study.seed + len(study.trials)) % 2**32
        self._study = optuna.create_study(
            sampler=optuna.samplers.TPESampler(seed=drawn, n_startup_trials=STARTUP),
            pruner=optuna.pruners.MedianPruner(n_startup_trials=STARTUP, n_warmup_steps=0),
        )
        distributions = {name: distribution(choice) for name, choice in study.space.items()}
        self._study.add_trials([_frozen(trial, distributions) for trial in study.trials])
        if not study.trials:
            self._study.enqueue_trial(defaults(study.space))
        self._trial = self._study.ask(distributions)
        self.values: dict[str, Value] = {name: self._trial.params[name] for name in study.space}
        self._prunes = study.prunes

    def is_hopeless(self, curve: Sequence[Sequence[float]]) -> bool:
        """Whether a trial does worse than the median of the others where its curve has come to."""
        self._trial.report(curve[-1][1], len(curve))
        return self._prunes and self._trial.should_prune()


def distribution(choice: Choice) -> optuna.distributions.BaseDistribution:
    """A choice as Optuna knows it."""
    import optuna

    if isinstance(choice, Between) and choice.whole:
        return optuna.distributions.IntDistribution(int(choice.low), int(choice.high), log=choice.log)
    if isinstance(choice, Between):
        return optuna.distributions.FloatDistribution(choice.low, choice.high, log=choice.log)
    return optuna.distributions.CategoricalDistribution(choice.values)


def _frozen(trial: Trial, distributions: dict[str, Any]) -> optuna.trial.FrozenTrial:
    """A trial as Optuna knows it; one that broke counts as pruned before its first figure, which is the worst."""
    import optuna

    is_done = trial.state == "done"
    points = {} if trial.state == "failed" else {number: loss for number, (_, loss) in enumerate(trial.curve, start=1)}
    return optuna.trial.create_trial(
        params=trial.values,
        distributions=distributions,
        value=trial.loss if is_done else None,
        state=optuna.trial.TrialState.COMPLETE if is_done else optuna.trial.TrialState.PRUNED,
        intermediate_values=points,
    )

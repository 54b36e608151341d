"""The trials of a search over recipes, in a file of a line each, and what is tried next.

As in the search of one training (`ingot.train.search.study`): Optuna proposes, here for several objectives at once; it
sees only what the file holds and draws from the seed and the number of trials, so that a search that was killed goes on
with the very trial it was at.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ingot.evaluate.search.spec import Objective
from ingot.train.search.space import Space, Value, defaults
from ingot.train.search.study import STARTUP, distribution, read_trials, write_trials

if TYPE_CHECKING:
    import optuna

DRAWS = 50
"""Times a setting that was tried already is drawn anew."""


@dataclass(frozen=True)
class Trial:
    """One setting and what came of it. figures: by the objectives' names; empty where it failed."""

    values: dict[str, Value]
    state: Literal["done", "failed"]
    figures: dict[str, float]
    seconds: float
    reason: str = ""


@dataclass
class Study:
    """The trials so far."""

    path: Path
    space: Space
    objectives: Sequence[Objective]
    seed: int
    trials: list[Trial] = field(default_factory=list)

    @classmethod
    def open(cls, path: Path, space: Space, objectives: Sequence[Objective], seed: int) -> Study:
        return cls(path, space, objectives, seed, read_trials(path, Trial))

    @property
    def seconds(self) -> float:
        return sum(trial.seconds for trial in self.trials)

    def tell(self, trial: Trial) -> None:
        """Keep a trial."""
        self.trials.append(trial)
        write_trials(self.path, self.trials)

    def ask(self) -> dict[str, Value] | None:
        """The next setting, the recipe's own values first; None when drawing finds none that was not tried."""
        tried = [trial.values for trial in self.trials]
        for draw in range(DRAWS):
            values = self._draw(draw)
            if values not in tried:
                return values
        return None

    def _draw(self, draw: int) -> dict[str, Value]:
        import optuna

        optuna.logging.set_verbosity(optuna.logging.ERROR)
        seed = (self.seed + DRAWS * len(self.trials) + draw) % 2**32
        study = optuna.create_study(
            directions=[objective.direction for objective in self.objectives],
            sampler=optuna.samplers.TPESampler(seed=seed, n_startup_trials=STARTUP if draw == 0 else 10**6),
        )
        distributions = {name: distribution(choice) for name, choice in self.space.items()}
        study.add_trials([self._frozen(trial, distributions) for trial in self.trials])
        if not self.trials:
            study.enqueue_trial(defaults(self.space))
        asked = study.ask(distributions)
        return {name: asked.params[name] for name in self.space}

    def _frozen(self, trial: Trial, distributions: dict[str, Any]) -> optuna.trial.FrozenTrial:
        import optuna

        done = trial.state == "done"
        return optuna.trial.create_trial(
            params=trial.values,
            distributions=distributions,
            values=[trial.figures[objective.name] for objective in self.objectives] if done else None,
            state=optuna.trial.TrialState.COMPLETE if done else optuna.trial.TrialState.FAIL,
        )

    @property
    def front(self) -> list[int]:
        """Numbers of the trials that no other one beats: not worse in anything, and better in something."""
        return [at for at, one in enumerate(self.trials) if one.state == "done"
                and not any(self._beats(other, one) for other in self.trials if other.state == "done")]  # fmt: skip

    def _beats(self, first: Trial, second: Trial) -> bool:
        pairs = list(zip(self._scores(first), self._scores(second), strict=True))
        return all(a <= b for a, b in pairs) and any(a < b for a, b in pairs)

    def _scores(self, trial: Trial) -> list[float]:
        return [objective.sign * trial.figures[objective.name] for objective in self.objectives]

    @property
    def winner(self) -> int:
        """Of the front the best in the first objective, then in the next. Raises ValueError where nothing was done."""
        return min(self.front, key=lambda at: (self._scores(self.trials[at]), at))

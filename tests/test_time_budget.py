"""A limited time allows so many epochs, and a schedule knows the last one before it is over."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from pipeline.training.optimization import warmup_cosine
from pipeline.training.time_budget import TimeBudget

STEPS = 40


@dataclass
class Machine:
    """Trains in pretence: each step and each evaluation take their time."""

    step: float = 1.0  # seconds
    evaluation: float = 4.0
    tracing: float = 20.0  # in the first step, and half of it in the first evaluation
    clock: float = 0.0

    def train(self, minutes: float, most: int = 1000, slower_from: float = 1e9) -> list[float]:
        """The learning rate at the end of each epoch, as a share of its peak."""
        budget = TimeBudget(most, STEPS, minutes, lambda: self.clock)
        rates: list[float] = []
        while len(rates) < max(1, budget.epochs):
            epoch = len(rates)
            budget.on_epoch_begin(epoch)
            for batch in range(STEPS):
                share = (epoch + (batch + 1) / STEPS) / budget.epochs
                first = epoch == 0 and batch == 0
                slow = 3 if self.clock > slower_from else 1
                self.clock += self.step * slow + (self.tracing if first else 0)
                budget.on_train_batch_end(batch)
            self.clock += self.evaluation + (self.tracing / 2 if epoch == 0 else 0)
            rates.append(warmup_cosine(share, 0.05))
        return rates


@pytest.mark.parametrize("epochs", [0.3, 1.2, 1.9, 2.6, 3.9, 7.5, 20.4])
def test_the_rate_comes_down_and_the_time_is_used(epochs: float) -> None:
    machine = Machine()
    seconds = 30 + epochs * 44  # tracing and epochs
    rates = machine.train(seconds / 60)
    assert int(epochs) - 1 <= len(rates) <= max(1, round(epochs))
    assert rates[-1] < 0.03
    assert machine.clock <= seconds * 1.05 or len(rates) == 1


def test_a_machine_that_slows_down_ends_with_a_low_rate_all_the_same() -> None:
    machine = Machine()
    rates = machine.train(10, slower_from=200)
    assert len(rates) < 600 / 44 - 2
    assert rates[-1] < 0.03
    assert machine.clock <= 600 * 1.1


def test_without_a_limit_the_settings_count() -> None:
    budget = TimeBudget(7, STEPS, None, lambda: 1e9)
    assert budget.epochs == 7


def test_a_training_that_goes_on_knows_how_long_an_epoch_took() -> None:
    budget = TimeBudget(100, STEPS, 10, lambda: 500.0, epochs_done=5, epoch_seconds=40)
    assert budget.epochs == 7
    spent = TimeBudget(100, STEPS, 10, lambda: 590.0, epochs_done=5, epoch_seconds=40)
    assert spent.epochs == 5

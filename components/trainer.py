"""Trainer that goes on where an earlier attempt stood."""

from __future__ import annotations

from tfx.components.trainer import component, executor
from tfx.dsl.components.base import executor_spec

from components.working_dir import WithWorkingDir


class Executor(WithWorkingDir, executor.GenericExecutor):
    """TFX's own, which calls `run_fn`, with a working folder."""


class ResumableTrainer(component.Trainer):
    """TFX's Trainer with the executor above."""

    EXECUTOR_SPEC = executor_spec.ExecutorClassSpec(Executor)

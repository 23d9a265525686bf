"""TFX's Tuner, which resumes an earlier attempt."""

from __future__ import annotations

from tfx.components.tuner import component, executor
from tfx.dsl.components.base import executor_spec

from components.working_dir import WithWorkingDir


class Executor(WithWorkingDir, executor.Executor):
    """TFX's executor, which calls `tuner_fn`, with a working folder."""


class ResumableTuner(component.Tuner):
    """TFX's Tuner with the executor above."""

    EXECUTOR_SPEC = executor_spec.ExecutorClassSpec(Executor)

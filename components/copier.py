"""Copier: has the version in service copied to another filesystem."""

# No `from __future__ import annotations` here: the decorator reads the annotations as objects.
import json

from tfx.dsl.component.experimental.annotations import Parameter
from tfx.dsl.component.experimental.decorators import component

from pipeline.release import mirror


@component
def ReleaseCopier(
    serving_dir: Parameter[str],
    copy_to: Parameter[str],
    beam_args: Parameter[str],
    run_id: Parameter[str],
) -> None:
    """Copies the version in service; raises CopyError if that fails (`pipeline.release.mirror`).

    Args:
      serving_dir: the serving folder of the model.
      copy_to: where the copies of serving folders are.
      beam_args: further options of Beam, a JSON list.
      run_id: of the run; a new one makes the component run again.
    """
    mirror.copy(serving_dir, copy_to, json.loads(beam_args))

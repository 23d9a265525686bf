"""Copier: copies the version in service to another filesystem."""

# No `from __future__ import annotations`, since the decorator needs the annotations as objects.
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
    """Copy the version in service; see `pipeline.release.mirror`.

    Args:
      serving_dir: the serving folder of the model.
      copy_to: the folder with the copies of serving folders.
      beam_args: additional Beam options, a JSON list.
      run_id: the id of the run, which prevents cache hits.

    Raises:
      CopyError: if copying fails.
    """
    mirror.copy(serving_dir, copy_to, json.loads(beam_args))

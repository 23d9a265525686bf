"""InfraValidator: lets a model server load a blessed model and answer requests before its release.

TFX's own component keeps to itself why it refused, asks even about models that the gate has
refused, and takes whatever went wrong for a fault of the model; this one does not.
"""

from __future__ import annotations

import os
import textwrap
from typing import Any, ClassVar

import grpc
from tfx import types
from tfx.components.infra_validator import component, error_types
from tfx.components.util import model_utils
from tfx.dsl.components.base import executor_spec
from tfx.proto import infra_validator_pb2
from tfx.types import (
    artifact_utils,
    component_spec,
    standard_artifacts,
    standard_component_specs,
)

from pipeline.artifacts import infra_blessing
from pipeline.compat import tfx_infra_validator
from pipeline.core import errors
from pipeline.core.errors import ServerError
from pipeline.release import infra_validation

# Answers of a network or a server that went away, which say nothing of the model.
_UNREACHED = (
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.CANCELLED,
)


class Executor(tfx_infra_validator.Executor):
    """Asks about blessed models alone, and notes on the output why one was refused."""

    def Do(
        self,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        """See TFX's executor.

        Raises:
          ServerError: if the model was not tried, because no server could be started or reached: a
            verdict would be kept in the cache.
        """
        blessing = artifact_utils.get_single_instance(
            output_dict[standard_component_specs.BLESSING_KEY]
        )
        judged = artifact_utils.get_single_instance(
            input_dict[standard_component_specs.MODEL_BLESSING_KEY]
        )
        if not model_utils.is_model_blessed(judged):
            blessing.set_int_custom_property(infra_blessing.BLESSED, 0)
            return
        self._failure: Exception | None = None
        self._image = ""
        super().Do(input_dict, output_dict, exec_properties)
        if self._failure is not None and not blessing.get_int_custom_property(
            infra_blessing.BLESSED
        ):
            reason = _verdict(self._failure)
            blessing.set_string_custom_property(
                infra_blessing.REASON,
                f"TensorFlow Serving ({self._image}) could not serve it: {reason}.",
            )

    def failed(self, image: str, failure: Exception) -> None:
        """Keeps what an attempt to serve the model ended with."""
        self._image, self._failure = image, failure

    def folder(self) -> str | None:
        """The folder that the server shares with this process, where it cannot see all."""
        return os.environ.get(infra_validation.SHARED_FOLDER)

    def spec(self, spec: infra_validator_pb2.ServingSpec) -> infra_validator_pb2.ServingSpec:
        """The server as it is started from here."""
        return infra_validation.here(spec)


def _verdict(failure: Exception) -> str:
    """What a failed attempt says of the model, in one clause.

    Raises:
      ServerError: if it says nothing of it.
    """
    # While TFX looks for the server's log, or stops it, another error may hide the one that counts.
    chain: list[BaseException] = [failure]
    while chain[-1].__context__ is not None:
        chain.append(chain[-1].__context__)
    ours = [error for error in chain if isinstance(error, error_types.InfraValidationError)]
    found = ours[0] if ours else chain[-1]
    if isinstance(found, error_types.ValidationFailed):
        # Its own text holds the whole request, with the photo.
        cause = found.__cause__
        if isinstance(cause, grpc.RpcError) and cause.code() in _UNREACHED:
            raise ServerError(
                f"the model server was lost while it was asked ({cause.code().name})"
            ) from failure
        if isinstance(cause, grpc.RpcError):
            said = textwrap.shorten(str(cause.details()), 200, placeholder=" [...]").rstrip(".")
            return f"asked about a photo, it answered {cause.code().name}: {said}"
        return "it could not load the model; its log is in the log of the run"
    if isinstance(found, error_types.JobAborted):
        return "it ended before it had loaded the model"
    raise ServerError(
        f"the model could not be tried on a model server ({errors.first_line(found)})"
    ) from failure


class _Spec(standard_component_specs.InfraValidatorSpec):
    INPUTS: ClassVar[dict[str, Any]] = {
        **standard_component_specs.InfraValidatorSpec.INPUTS,
        standard_component_specs.MODEL_BLESSING_KEY: component_spec.ChannelParameter(
            type=standard_artifacts.ModelBlessing
        ),
    }


class BlessedModelValidator(component.InfraValidator):
    """TFX's InfraValidator with the executor above, which wants the gate's verdict."""

    SPEC_CLASS = _Spec
    EXECUTOR_SPEC = executor_spec.ExecutorClassSpec(Executor)

    def __init__(
        self,
        *,
        model: types.BaseChannel,
        model_blessing: types.BaseChannel,
        examples: types.BaseChannel,
        serving_spec: infra_validator_pb2.ServingSpec,
        validation_spec: infra_validator_pb2.ValidationSpec,
        request_spec: infra_validator_pb2.RequestSpec,
    ):
        """Creates the component.

        Args:
          model: the candidate.
          model_blessing: Evaluator's verdict on it.
          examples: raw ones, which the requests are made of.
          serving_spec: which server, where.
          validation_spec: how patiently.
          request_spec: what it is asked.
        """
        super(component.InfraValidator, self).__init__(
            spec=_Spec(
                model=model,
                model_blessing=model_blessing,
                examples=examples,
                serving_spec=serving_spec,
                validation_spec=validation_spec,
                request_spec=request_spec,
                blessing=types.Channel(type=standard_artifacts.InfraBlessing),
            )
        )

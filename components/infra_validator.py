"""InfraValidator: has a model server load a blessed model and serve requests before its release.

Unlike TFX's component, this one records why a model was refused, skips models that the gate did not
bless, and does not blame the model for failures of the server.
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

# Errors of the network or a lost server, which say nothing about the model.
_UNREACHED = (
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.CANCELLED,
)


class Executor(tfx_infra_validator.Executor):
    """Validates only blessed models, and records the reason for a refusal on the output."""

    def Do(
        self,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        """Run the validation; see TFX's executor.

        Raises:
          ServerError: if no server could be started or reached. No verdict is written, since it
            would be cached.
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
                f"TensorFlow Serving ({self._image}) could not serve the model: {reason}.",
            )

    def failed(self, image: str, failure: Exception) -> None:
        """Store the image and the error of a failed attempt to serve the model."""
        self._image, self._failure = image, failure

    def folder(self) -> str | None:
        """Return the folder that is shared with the server, if it cannot see the whole disk."""
        return os.environ.get(infra_validation.SHARED_FOLDER)

    def spec(self, spec: infra_validator_pb2.ServingSpec) -> infra_validator_pb2.ServingSpec:
        """Return the serving spec for this machine."""
        return infra_validation.here(spec)


def _verdict(failure: Exception) -> str:
    """Return a clause about the model from a failed attempt to serve it.

    Raises:
      ServerError: if the failure says nothing about the model.
    """
    # Fetching the server's log or stopping it may raise another error, which hides the real one.
    chain: list[BaseException] = [failure]
    while chain[-1].__context__ is not None:
        chain.append(chain[-1].__context__)
    of_tfx = [error for error in chain if isinstance(error, error_types.InfraValidationError)]
    error = of_tfx[0] if of_tfx else chain[-1]
    if isinstance(error, error_types.ValidationFailed):
        # Its own message contains the whole request, with the photo.
        cause = error.__cause__
        if isinstance(cause, grpc.RpcError) and cause.code() in _UNREACHED:
            raise ServerError(
                f"the connection to the model server was lost ({cause.code().name})"
            ) from failure
        if isinstance(cause, grpc.RpcError):
            details = textwrap.shorten(str(cause.details()), 200, placeholder=" [...]").rstrip(".")
            return f"it responded to a request with {cause.code().name}: {details}"
        return "it failed to load the model; its log is in the log of the run"
    if isinstance(error, error_types.JobAborted):
        return "it exited before it had loaded the model"
    raise ServerError(
        f"the model could not be tested on a model server ({errors.first_line(error)})"
    ) from failure


class _Spec(standard_component_specs.InfraValidatorSpec):
    PARAMETERS: ClassVar[dict[str, Any]] = {
        **standard_component_specs.InfraValidatorSpec.PARAMETERS,
        "code": component_spec.ExecutionParameter(type=str),
    }
    INPUTS: ClassVar[dict[str, Any]] = {
        **standard_component_specs.InfraValidatorSpec.INPUTS,
        standard_component_specs.MODEL_BLESSING_KEY: component_spec.ChannelParameter(
            type=standard_artifacts.ModelBlessing
        ),
    }


class BlessedModelValidator(component.InfraValidator):
    """TFX's InfraValidator with the executor above and the gate's verdict as another input."""

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
        code: str,
    ):
        """Create the component.

        Args:
          model: the candidate.
          model_blessing: the Evaluator's verdict on it.
          examples: raw examples, from which the requests are made.
          serving_spec: the model server and where it runs.
          validation_spec: timeouts and retries.
          request_spec: the requests.
          code: fingerprint of the component's code.
        """
        super(component.InfraValidator, self).__init__(
            spec=_Spec(
                model=model,
                model_blessing=model_blessing,
                examples=examples,
                serving_spec=serving_spec,
                validation_spec=validation_spec,
                request_spec=request_spec,
                code=code,
                blessing=types.Channel(type=standard_artifacts.InfraBlessing),
            )
        )

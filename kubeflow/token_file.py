"""The file with a bearer token: read anew for each request, and never shown."""

from __future__ import annotations

import re
import stat
from pathlib import Path

from kfp.client.token_credentials_base import TokenCredentialsBase

from pipeline.core.errors import UserError

_MOST_BYTES = 2**16  # no server takes a longer header
_TOKEN = re.compile(rb"[!-~]+")  # visible ASCII, without a space


class TokenFile(TokenCredentialsBase):
    """The SDK's credentials, from a file: tokens live an hour, and a run may take longer.

    Attributes:
      token: that was read last, None before.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self.token: str | None = None

    def read(self) -> str:
        """Reads the token.

        Raises:
          UserError: if the file cannot be read, or holds anything but one token.
        """
        advice = "it must hold the token alone, on one line"
        try:
            with self._path.open("rb") as file:
                content = file.read(_MOST_BYTES + 1).strip()
        except OSError as error:
            raise UserError(f"Cannot read the token in {self._path}: {error.strerror}.") from None
        if not content:
            raise UserError(f"The token file {self._path} is empty; {advice}.")
        if len(content) > _MOST_BYTES or not _TOKEN.fullmatch(content):
            what = "more than one line" if b"\n" in content else "something that is no token"
            raise UserError(f"The token file {self._path} holds {what}; {advice}.")
        self.token = content.decode("ascii")
        return self.token

    def exposed(self) -> str | None:
        """A sentence if others on this machine may read the file, else None."""
        mode = stat.S_IMODE(self._path.stat().st_mode)
        if not mode & (stat.S_IRGRP | stat.S_IROTH):
            return None
        return (
            f"Others on this machine can read the token in {self._path} (mode {mode:o}); "
            f"chmod 600 keeps it to you."
        )

    def refresh_api_key_hook(self, config: object) -> None:
        """Called by the SDK before each request."""
        config.api_key["authorization"] = self.read()  # type: ignore[attr-defined]

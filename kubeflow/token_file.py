"""A file with a bearer token, which is read again for each request and never printed."""

from __future__ import annotations

import re
import stat
from pathlib import Path

import kfp_server_api
from kfp.client.token_credentials_base import TokenCredentialsBase

from pipeline.core.errors import UserError

_MAX_BYTES = 2**16  # servers do not accept longer headers
_TOKEN = re.compile(rb"[!-~]+")  # visible ASCII without spaces


class TokenFile(TokenCredentialsBase):
    """Credentials for the SDK. The file is read again because tokens often expire during a run.

    Attributes:
      token: the last token that was read; None before.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self.token: str | None = None

    def read(self) -> str:
        """Read the token.

        Raises:
          UserError: if the file is unreadable or contains anything but one token.
        """
        advice = "it must contain one line with the token"
        try:
            with self._path.open("rb") as file:
                content = file.read(_MAX_BYTES + 1).strip()
        except OSError as error:
            raise UserError(f"Cannot read the token in {self._path}: {error.strerror}.") from None
        if not content:
            raise UserError(f"The token file {self._path} is empty; {advice}.")
        if len(content) > _MAX_BYTES or not _TOKEN.fullmatch(content):
            what = "more than one line" if b"\n" in content else "something other than a token"
            raise UserError(f"The token file {self._path} contains {what}; {advice}.")
        self.token = content.decode("ascii")
        return self.token

    def exposed(self) -> str | None:
        """Return a warning if other users can read the file, else None."""
        mode = stat.S_IMODE(self._path.stat().st_mode)
        if not mode & (stat.S_IRGRP | stat.S_IROTH):
            return None
        return (
            f"Other users of this machine can read the token in {self._path} (mode {mode:o}); "
            f"run chmod 600 on it."
        )

    def refresh_api_key_hook(self, config: kfp_server_api.Configuration) -> None:
        """Set the token; the SDK calls this before each request."""
        config.api_key["authorization"] = self.read()

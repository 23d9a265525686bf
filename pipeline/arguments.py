"""Command lines: mistakes become one sentence."""

from __future__ import annotations

import argparse
from typing import NoReturn

from pipeline.errors import UserError


class Parser(argparse.ArgumentParser):
    """An argument parser that raises UserError instead of ending the process."""

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message[:1].upper()}{message[1:]}; --help lists all arguments.")

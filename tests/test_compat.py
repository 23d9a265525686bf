"""What is changed of other libraries' internals is still as it was when it was written."""

from __future__ import annotations

import importlib
import pkgutil

from pipeline import compat


def test_libraries_still_look_as_the_changes_to_them_need() -> None:
    assert list(compat.faults()) == []


def test_every_module_of_the_room_says_what_it_relies_on() -> None:
    names = [f"{compat.__name__}.{m.name}" for m in pkgutil.iter_modules(compat.__path__)]
    assert tuple(sorted(names)) == compat.MODULES
    assert all(importlib.import_module(name).PARTS for name in names)


def test_a_changed_private_part_is_named() -> None:
    module = "pipeline.compat"
    assert compat.Part(module, "Part.fault", ("self",)).fault() is None
    assert compat.Part(module, "Part.gone").fault() == "pipeline.compat no longer has Part.gone."
    assert compat.Part(module, "Part.fault", ("self", "why")).fault() == (
        "pipeline.compat.Part.fault now takes ('self',), not ('self', 'why')."
    )

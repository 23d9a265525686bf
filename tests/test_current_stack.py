"""The whole suite once more, on the current stack."""

from __future__ import annotations

import current_stack
import pytest


@pytest.mark.slow
def test_whole_suite_on_the_current_stack_in_debian_13(
    request: pytest.FixtureRequest, capfd: pytest.CaptureFixture[str]
) -> None:
    if current_stack.in_use():
        pytest.skip("this run is on the current stack already")
    suite = request.config.stash.get(current_stack.SUITE, None)
    if suite is None:
        pytest.skip("CURRENT STACK NOT TESTED: set TEST_DEBIAN13=1, as .ci/run does")
    code = suite.wait()
    with capfd.disabled():
        print("\n---- the current stack, in a Debian 13 root ----")
        print(suite.output())
        print("---- end of the current stack ----", flush=True)
    if code == current_stack.IMPOSSIBLE:
        pytest.skip("CURRENT STACK NOT TESTED: no Debian 13 root can be had here, see above")
    assert code == 0, "the suite failed on the current stack, see above"

"""Prints what this interpreter lacks to make .venv, with Debian's package names, if anything.

TFX needs pyfarmhash, which has no wheel for any Python and is compiled during the install.
"""

import os
import shlex
import shutil
import sys
import sysconfig

package = "python{}.{}".format(*sys.version_info[:2])
lacking = []
try:
    import ensurepip  # noqa: F401  Debian keeps it in a package of its own, and venv fails without it
except ImportError:
    lacking.append(f"the venv module (Debian: {package}-venv)")
if not os.path.exists(os.path.join(sysconfig.get_path("include"), "Python.h")):
    lacking.append(f"the header Python.h (Debian: {package}-dev)")
compilers = [os.environ.get(name) or sysconfig.get_config_var(name) for name in ("CC", "CXX")]
if not all(shutil.which(shlex.split(compiler)[0]) for compiler in compilers):
    lacking.append("a C++ compiler (Debian: g++)")
print(" and ".join(lacking))

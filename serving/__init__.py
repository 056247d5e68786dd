"""What the scripts share: what a record is, models, training, and the web side of the service."""

import sys

# Before anything that an older Python stumbles over.
if sys.version_info < (3, 11):  # noqa: UP036 (it is what an older one is told)
    sys.exit("Python 3.11 or later is needed, and this is " + sys.version.split()[0] + " (" + sys.executable + ")")

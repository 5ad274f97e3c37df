"""Ray Tune: workers, the adapters between Tune and the driver, and the patches of Tune."""

import os
import tempfile
from pathlib import Path

try:
    Path.home()
except RuntimeError:  # a user without a name and without HOME, as in containers: Ray asks for it when it is imported
    os.environ["HOME"] = os.environ.get("RESNET_SEARCH_CACHE") or tempfile.gettempdir()

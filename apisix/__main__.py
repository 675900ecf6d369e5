# SPDX-License-Identifier: Apache-2.0
"""`python -m apisix`, the same as the command `apisix-runner`."""

import sys

from apisix.main import main

if __name__ == "__main__":
    sys.exit(main())

"""``python -m asr.cli``: the same as the ``asr`` command."""

import sys

from asr.cli.main import main

sys.exit(main())

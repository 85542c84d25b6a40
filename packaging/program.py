"""What the bundle's program runs first: one of its two roles, chosen before anything heavy."""

from __future__ import annotations

import sys


def _main() -> None:
    from nsfwscan import bundled

    bundled.prepare()
    if sys.argv[1:2] == [bundled.WORKER_FLAG]:
        from nsfwscan.images import decode_worker

        decode_worker.main(sys.argv[2:])
    else:
        from nsfwscan.cli import main

        main.run()


_main()

"""The live page of a run while a test looks at it."""

import contextlib
import threading

from gccpo_jax.report import live


@contextlib.contextmanager
def serving(workdir):
    with live.server([workdir]) as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"http://{live.ADDRESS}:{running.server_address[1]}/"
        finally:
            running.shutdown()
            thread.join()

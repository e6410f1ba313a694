"""A process that imports the heavy libraries once and runs each notebook in a child of its own.

Started by `WarmInterpreter`. Reads one JSON line a notebook (path, folder, output), answers with
the child's process id, and with its exit
status when it has ended. A child starts with what is imported here and nothing else: no module of
userllm, so that each notebook
imports those anew, and no library whose threads would not survive the copy.
"""

import json
import os
import sys
import traceback

import matplotlib

matplotlib.use("agg")

import accelerate  # noqa: E402, F401
import IPython  # noqa: E402, F401
import ipywidgets  # noqa: E402, F401
import pandas  # noqa: E402, F401
import peft  # noqa: E402, F401
import pyarrow.parquet  # noqa: E402, F401
import seaborn  # noqa: E402, F401
import sklearn.linear_model  # noqa: E402, F401
import timm  # noqa: E402, F401
import transformers  # noqa: E402, F401
from nbdev.test import nbdev_test  # noqa: E402


def run(path: str, folder: str, output: str) -> None:
    "Run a notebook and end this process with 0 where it succeeds."
    status = 1
    try:
        os.setsid()
        os.chdir(folder)
        sys.path.insert(0, "")  # as an interpreter without a script has it
        written, nothing = (
            os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC),
            os.open(os.devnull, os.O_RDONLY),
        )
        for target, source in ((0, nothing), (1, written), (2, written)):
            os.dup2(source, target)
        nbdev_test.__wrapped__(path=path, n_workers=0, do_print=True)
        status = 0
    except SystemExit as stop:
        status = stop.code if isinstance(stop.code, int) else 1
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def main() -> None:
    print("ready", flush=True)
    for line in sys.stdin:
        child = os.fork()
        if not child:
            run(**json.loads(line))
        print(child, flush=True)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)


if __name__ == "__main__":
    assert "userllm" not in sys.modules and "polars" not in sys.modules
    main()

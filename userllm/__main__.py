"`python -m userllm` is the command `userllm`."

import sys

from userllm.cli.entry import main

if __name__ == "__main__":
    sys.exit(main())

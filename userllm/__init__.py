__version__ = "0.2.0"

from userllm.front_door import __dir__, __getattr__

"""What one registration asks of torch: dispatched operations, and waits for the device in the optimisation loop; no clock."""

import sys
from collections import Counter
from typing import Any

import pytest
import torch
from problems import photographs
from torch.utils._python_dispatch import TorchDispatchMode

from drmime import register

WAITS = {"_local_scalar_dense", "nonzero", "masked_select"}  # on a GPU each would wait for it

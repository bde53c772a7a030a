"""What all tests share."""

import torch

# Some tests fork ranks from this process, and a pool of threads does not survive a fork: whoever
# computes in the child would wait for ever. With one thread there is no pool.
torch.set_num_threads(1)

"""What holds for all tests."""

import os

# Before numpy is loaded: on small matrices a second BLAS thread makes the eigensolver ten times slower.
for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_name, "1")

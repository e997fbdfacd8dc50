"""Three steps from a skeleton CNN to 99.4 % on MNIST with fewer than 8,000 parameters.

The lab is the small modules at the top of this package; README.md beside this file names a reading order.
"""

import os

# Libraries read these once, when they are loaded, so they come before every other import of this package. A notebook
# that imports torch first keeps a person's settings of OpenMP if it runs by hand; a batch starts its kernels without.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # threads that wait by spinning crawl on a busy machine
os.environ["CUBLAS_WORKSPACE_CONFIG"] = ":4096:8"  # cuBLAS is deterministic only with it
os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # or albumentations asks the network for its latest version

# What a person may have set, to have other instructions, another precision or other threads than asked for, and so
# other numbers; or lines of libraries among the results.
PERSONAL = (
    *("ATEN_CPU_CAPABILITY", "DNNL_", "MKL_CBWR", "MKL_ENABLE_INSTRUCTIONS", "MKL_VERBOSE", "NVIDIA_TF32_OVERRIDE"),
    *("OMP_DISPLAY_", "OMP_DYNAMIC", "OMP_THREAD_LIMIT", "ONEDNN_", "TORCH_CPP_LOG_LEVEL", "TORCH_LOGS"),
)
for name in [name for name in os.environ if name.startswith(PERSONAL)]:
    del os.environ[name]

__version__ = "0.3.0"


class LabError(Exception):
    """Something the user can mend: the command line prints its message as a sentence, without a traceback."""

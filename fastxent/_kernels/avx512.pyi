from fastxent._kernels.baseline import *

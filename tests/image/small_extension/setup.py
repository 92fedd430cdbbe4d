"""Stands in for flash-attn's source: its name, the ways its setup is told what to do, and one small kernel."""

import os

from setuptools import setup
from torch.utils.cpp_extension import BuildExtension, CUDAExtension

archs = os.environ["FLASH_ATTN_CUDA_ARCHS"].split(";")
assert os.environ["FLASH_ATTENTION_FORCE_BUILD"] == "TRUE"
assert int(os.environ["MAX_JOBS"]) >= 1

setup(
    name="flash_attn",
    version="2.8.3.post2",
    packages=["flash_attn"],
    ext_modules=[
        CUDAExtension(
            "flash_attn_2_cuda",
            ["small.cu"],
            extra_compile_args={"nvcc": ["-O1", *(f"-gencode=arch=compute_{arch},code=sm_{arch}" for arch in archs)]},
        )
    ],
    cmdclass={"build_ext": BuildExtension},
)

"""Frozen networks on GPUs: the only modules of coding that import torch.

* `carriers`: number formats in which torch's products of small integers are exact;
* `photo`: the functions of `pixelzip.models.frozen.kernels`, as torch does them;
* `programs`: the arithmetic of `pixelzip.models.programs.arithmetic`, as torch does it.

They run on the CPU as well, where tests hold the compiled code to them.
"""

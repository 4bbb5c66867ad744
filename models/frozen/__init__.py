"""Frozen networks of ``photo``'s kind: integers, the only form that ever codes.

* `architecture`: their sizes, and which pixels they see;
* `shell`: what the files of all frozen networks share, those of programs too;
* `file`: what their file holds and what has to hold of it;
* `network`: what the codec sees of them, whatever computes it;
* `native`: the backend that computes it in compiled C, whole tiles at once;
* `walk`, with `kernels` or `pixelzip.models.gpu.photo`: the backends in arrays, where there is no C
  and on GPUs;
* `reference`: the plainest one, which tests hold the others to.
"""

"""Stages: what one mapped task does with one batch: caption it, or index what is captioned.

batch_state: how far each clip of a batch is; rejection_policy: when rejections are not the clips' fault; reindex: a
collection made anew from what is stored.
"""

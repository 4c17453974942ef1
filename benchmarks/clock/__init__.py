"""Measure whether a model gets the times of the frames that clipdex sends.

    python -m benchmarks.clock.train MODEL
    python -m benchmarks.clock.measure --out DIR --work DIR --model MODEL --site sglang=DIR --site vllm=DIR

A small Qwen2.5-VL is trained from scratch on drawn clips of one moving shape (train.py), saved as a normal checkpoint
and served by each engine. clipdex captions unseen clips, forward and reversed, at several rates. The score is the share
of captions with the right direction of movement. A model without frame times scores 25 %, by chance;
more if two moments are left of the clip, as in vLLM 0.24.0.
"""

"""The engine's clock: does a model get the times of the frames that clipdex sends?

    python -m benchmarks.clock.measure --out DIR --work DIR --site sglang=DIR --site vllm=DIR

A small Qwen2.5-VL is trained from nothing on drawn clips of one moving shape (train.py), saved as a normal checkpoint
and served by each engine. Clips that it has not seen, forward and reversed, at several rates, go through clipdex;
counted is how many captions name the direction of the movement. A model without time is right by chance: one of four.
"""

"""The in-process engine: any image-text checkpoint that transformers can load."""

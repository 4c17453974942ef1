"""The engine in this process: any checkpoint that transformers opens as a model of images and text."""

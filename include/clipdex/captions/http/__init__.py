"""Engines over HTTP: a model behind one gateway or several nodes.

model          requests and their answers, and the check before a clip is spent
node_pool      which node gets a request, retries, cooldowns, hedged requests; client: one request to one node
load_control   how many requests a task keeps open; dialects: what differs between servers
clock          does a server give the model the times of the frames?
"""

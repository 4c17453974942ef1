"""Provide shared test helpers: a stand-in engine, generated clips, small indexes."""

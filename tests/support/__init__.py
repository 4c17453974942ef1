"""What tests share: a stand-in engine, clips made on the spot, small indexes."""

"""clipdex: from video clips to a search index, in batches that lose nothing and repeat nothing."""

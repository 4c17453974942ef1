"""What a caption is, the engines that write it, the gates it must pass."""

"""Models: what they are (manifest), which are known (catalogue), where they live, how they run."""

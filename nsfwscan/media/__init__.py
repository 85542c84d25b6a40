"""Pictures: finding them on the disk, and decoding them safely."""

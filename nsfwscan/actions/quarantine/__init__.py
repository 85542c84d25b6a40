"""The quarantine: moving pictures in, restoring, deleting and verifying them."""

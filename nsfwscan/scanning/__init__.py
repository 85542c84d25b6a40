"""From files to results: the only orchestration."""

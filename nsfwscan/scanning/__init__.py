"""From files to results. All orchestration is here."""

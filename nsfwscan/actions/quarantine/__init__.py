"""Pictures that were moved out of sight, and how they come back."""

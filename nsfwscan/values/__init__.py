"""What is known about pictures and said about them: pure values, standard library only."""

"""How the score of each way to use a model grows with the number of labelled rows."""

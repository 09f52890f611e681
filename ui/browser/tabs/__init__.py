"""The tabs of the browser app, one module per tab (train.py in three, evaluate.py in five)."""

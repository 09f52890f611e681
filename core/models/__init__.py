"""The arithmetic of BERT and GPT-2 on packed batches."""

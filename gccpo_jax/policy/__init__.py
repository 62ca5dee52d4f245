"""The model: its shape, its weights, its tokenizer, its cache, the law of its tokens."""

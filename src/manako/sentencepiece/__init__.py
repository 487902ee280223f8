"""Vocabularies of SentencePiece: their file read, and texts cut as its own library cuts them.

Special here: our own reader and our own arithmetic, and no part of the library `sentencepiece`. What `transformers`
converts such a file to gives other ids for some texts (composed and half-width characters, names of special tokens,
pieces of equal score), so a conversion would be wrong without a word. Slower than a library in Rust, and exact.
"""

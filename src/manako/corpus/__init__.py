"""Where text comes from: files, folders and archives of documents, and the marks of Aozora Bunko.

documents.py   a path -> documents, each with a name and a text; strict encodings
aozora.py      the notation of Aozora Bunko (青空文庫) taken out of a work; modern or historical kana
split.py       which documents a model learns from and which it is judged on
"""

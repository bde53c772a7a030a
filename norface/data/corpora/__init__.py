"""Readers of corpora as they are handed out: official layout => FaceRecords, one reader a file.

A reader module has `read_records(root, ...)` that returns the records in a fixed order, each with
the path of its picture; what the source writes for "not coded" is mapped to absent there.
"""

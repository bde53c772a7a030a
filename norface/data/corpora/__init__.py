"""Readers of corpora as they are handed out: official layout => FaceRecords, one reader a file."""

"""Jobs: many pictures handed over at once and scored in the background.

`routes` takes and answers requests, `store` remembers jobs in SQLite, `spool` holds uploaded
pictures until they are scored, `folders` says which of the server's folders may be scanned,
`runner` scores, `callbacks` tells other programs about the end. A job survives restarts and kills.
"""
